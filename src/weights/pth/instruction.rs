//! The opcodes of Python's pickle (CPython's `Lib/pickletools.py`).

use super::{Reader, TAKE_SAFETENSORS};
use crate::error::{Error, Result};

/// One opcode, by its name there, with its argument. Opcodes that differ only in length are one here.
#[derive(Clone, Copy)]
pub(super) enum Instruction<'a> {
    /// Framing only, without a value.
    Frame,
    Mark,
    /// Memoizes a value, at the next index if none is given.
    Put(Option<u32>),
    SetItem,
    SetItems,
    Append,
    Appends,
    Build,
    /// Makes a value that tensors do not need.
    Other,
    Int(i64),
    Unicode(&'a str),
    EmptyDict,
    /// A tuple of this many values.
    TupleOf(usize),
    Tuple,
    Get(u32),
    Global(&'a str, &'a str),
    StackGlobal,
    BinPersId,
    Reduce,
}

impl<'a> Instruction<'a> {
    /// The next opcode; `None` at the end.
    pub(super) fn read(code: &mut Reader<'a>) -> Result<Option<Self>> {
        Ok(Some(match code.u8()? {
            b'.' => return Ok(None),
            0x80 => protocol(code.u8()?).map(|()| Self::Frame)?,
            0x95 => code.u64().map(|_| Self::Frame)?,
            b'(' => Self::Mark,
            b'q' => Self::Put(Some(code.u8()?.into())),
            b'r' => Self::Put(Some(code.u32()?)),
            0x94 => Self::Put(None),
            b's' => Self::SetItem,
            b'u' => Self::SetItems,
            b'a' => Self::Append,
            b'e' => Self::Appends,
            b'b' => Self::Build,
            b'N' | 0x88 | 0x89 | b']' => Self::Other, // None, true, false, an empty list
            b'G' => code.u64().map(|_| Self::Other)?, // a fraction
            b'K' => Self::Int(code.u8()?.into()),
            b'M' => Self::Int(code.u16()?.into()),
            b'J' => Self::Int(code.u32()?.cast_signed().into()),
            0x8a => long(code)?,
            0x8c => code.u8().and_then(|length| text(code, length.into()))?,
            b'X' => code.u32().and_then(|length| text(code, length as usize))?,
            b'}' => Self::EmptyDict,
            b')' => Self::TupleOf(0),
            short @ 0x85..=0x87 => Self::TupleOf(usize::from(short - 0x84)),
            b't' => Self::Tuple,
            b'h' => Self::Get(code.u8()?.into()),
            b'j' => Self::Get(code.u32()?),
            b'c' => Self::Global(line(code)?, line(code)?),
            0x93 => Self::StackGlobal,
            b'Q' => Self::BinPersId,
            b'R' => Self::Reduce,
            other => return Err(unknown(other)),
        }))
    }
}

fn unknown(instruction: u8) -> Error {
    let what = format!("its pickle has the instruction {instruction:#04x}, and no plain state dict has");
    Error::failed(what).hint(TAKE_SAFETENSORS)
}

fn protocol(version: u8) -> Result<()> {
    match version {
        2..=5 => Ok(()),
        _ => {
            Err(Error::failed(format!("its pickle has the protocol {version}; 2 to 5 can be read"))
                .hint(TAKE_SAFETENSORS))
        }
    }
}

fn text<'a>(code: &mut Reader<'a>, length: usize) -> Result<Instruction<'a>> {
    str::from_utf8(code.take(length)?).map(Instruction::Unicode).map_err(|_| damaged("a text is not UTF-8"))
}

/// An integer of any length; those of more than 64 bits are not part of a tensor.
fn long<'a>(code: &mut Reader<'a>) -> Result<Instruction<'a>> {
    let length = code.u8()?.into();
    let bytes = code.take(length)?;
    let negative = bytes.last().is_some_and(|&last| last >= 0x80);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    let Some(low) = whole.get_mut(..length) else { return Ok(Instruction::Other) };
    low.copy_from_slice(bytes);
    Ok(Instruction::Int(i64::from_le_bytes(whole)))
}

fn line<'a>(code: &mut Reader<'a>) -> Result<&'a str> {
    let end = code.0.iter().position(|&byte| byte == b'\n').ok_or_else(Reader::short)?;
    let line = code.take(end)?;
    code.take(1)?;
    str::from_utf8(line).map_err(|_| damaged("a name is not UTF-8"))
}

/// The error of a damaged pickle.
pub(super) fn damaged(how: &str) -> Error {
    Error::failed(format!("its pickle is damaged: {how}")).hint("fetch the file again")
}
