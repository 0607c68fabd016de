//! `.pth` files as `torch.save` writes them: a ZIP archive of a pickle, which names the tensors, and of their bytes.
//!
//! The pickle is read as a list of names, shapes and places. Nothing that it asks for is ever called.

mod global;
mod instruction;
mod pickle;
mod zip;

use std::collections::btree_map::Entry;

use super::stored::{Kind, Stored, Table, countable};
use crate::error::{Context, Error, Result};
use pickle::{Pickle, Tensor};
use zip::Archive;

/// The longest pickle, and the longest directory of an archive, that is read. Real ones have some 200 bytes a tensor.
const MAX_HEADER: usize = 16 << 20;

/// What to do about a file that only its authors' own code can make sense of.
const TAKE_SAFETENSORS: &str = "take the same weights as safetensors, or save them from Python as a dict of tensors";

/// Reads what a whole `.pth` file says of its tensors: of the dict that was saved, or else of one within it that is called
/// `state_dict`, `model`, `module` or `params`. Other values in it are passed over.
///
/// # Errors
/// What is wrong with the file, or what in it is no plain dict of contiguous tensors. No more than some forty bytes
/// are allocated for each byte of the pickle and of the archive's directory, and neither may have more than 16 MiB.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    let archive = Archive::open(bytes)?;
    if archive.data("byteorder").is_some_and(|(begin, end)| bytes[begin..end] != *b"little") {
        return Err(Error::failed("its numbers are not in little-endian order").hint(TAKE_SAFETENSORS));
    }
    let (begin, end) = archive.data("data.pkl").ok_or_else(|| {
        Error::failed("it is a ZIP archive without `data.pkl`, so not one of `torch.save`").hint(TAKE_SAFETENSORS)
    })?;
    if end - begin > MAX_HEADER {
        return Err(Error::failed("no dict of tensors has a pickle as long as its own").hint(TAKE_SAFETENSORS));
    }
    let pickle = Pickle::read(&bytes[begin..end])?;
    let mut table = Table::default();
    for (name, tensor) in pickle.tensors()? {
        let stored = tensor.and_then(|tensor| place(&archive, tensor)).context(|| format!("cannot read `{name}`"))?;
        match table.tensors.entry(name.to_owned()) {
            Entry::Vacant(place) => place.insert(stored),
            Entry::Occupied(_) => return Err(twice("tensors", name)),
        };
    }
    Ok(table)
}

/// What to say of a name that two things have.
fn twice(what: &str, name: &str) -> Error {
    Error::failed(format!("it holds two {what} called `{name}`"))
        .hint("fetch the file again, or take it from its authors")
}

/// Finds the bytes of a tensor.
fn place(archive: &Archive, tensor: Tensor) -> Result<Stored> {
    let Tensor { dtype, storage, offset, shape, strides } = tensor;
    let kind = Kind::Plain(dtype);
    let bytes = kind.bytes(&shape).filter(|_| countable(&shape));
    let bytes = bytes.ok_or_else(|| Error::failed(format!("no tensor has the shape {shape:?}")))?;
    if !contiguous(&shape, &strides) {
        return Err(Error::failed(format!(
            "its numbers are not in a row: a shape of {shape:?}, strides of {strides:?}"
        ))
        .hint("save the weights again with `.contiguous()` of each tensor, or take them as safetensors"));
    }
    let (begin, end) =
        archive.data(&format!("data/{storage}")).ok_or_else(|| Error::failed("its bytes are not there"))?;
    let first = kind.bytes(&[offset]).and_then(|skipped| begin.checked_add(skipped));
    let range = first.and_then(|first| Some((first, first.checked_add(bytes).filter(|&last| last <= end)?)));
    let range =
        range.ok_or_else(|| Error::failed(format!("it goes beyond the {} bytes that it lies in", end - begin)))?;
    Ok(Stored { kind, shape, range })
}

/// Whether the elements follow one another, the last side the fastest. One element alone needs no stride.
fn contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    let mut in_a_row = |(&side, &stride): (&usize, &usize)| {
        let fits = side == 1 || stride == step;
        step *= side;
        fits
    };
    shape.len() == strides.len() && (shape.contains(&0) || shape.iter().zip(strides).rev().all(&mut in_a_row))
}

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(Self::short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(Self::short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn short() -> Error {
        Error::failed("a part of it is missing")
    }
}
