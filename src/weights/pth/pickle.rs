//! A pickle machine, as far as a dict of tensors needs it.
//!
//! Values are numbers, slices of the pickle, and indices into two lists that only grow. So nested or
//! recursive values cost no more than others: some bytes per byte of the pickle.

use safetensors::tensor::Dtype;

use super::instruction::{Instruction, damaged};
use super::{Reader, TAKE_SAFETENSORS, global::Global};
use crate::error::{Error, Result};

/// Keys of the dict of tensors within the dict that training scripts save.
const INNER: [&str; 4] = ["state_dict", "model", "module", "params"];
/// Most dimensions of a tensor: 3D convolutions have five.
const MAX_DIMS: usize = 8;
/// Most digits of the number of a storage: those of 64 bits.
const MAX_DIGITS: usize = 20;

/// A tensor, as the pickle has it.
pub(super) struct Tensor {
    pub(super) dtype: Dtype,
    /// The number of its storage.
    pub(super) storage: u64,
    /// Its first element in the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Strides in elements.
    pub(super) strides: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Whole(i64),
    Tuple(Span),
    /// By number.
    Dict(usize),
    Global(Global),
    /// A storage, with its type if it has one, and its number.
    Storage(Option<Dtype>, u64),
    /// The arguments to rebuild it from.
    Tensor(Span),
    /// A value that tensors do not need: a list, a float, `None`, a bool.
    Other,
}

/// Where a tuple is in [`Pickle::tuples`].
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    length: usize,
}

/// An entry of a dict.
struct Item<'a> {
    dict: usize,
    key: Value<'a>,
    value: Value<'a>,
}

/// The state of the machine.
#[derive(Default)]
pub(super) struct Pickle<'a> {
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    /// The memo.
    memo: Vec<Value<'a>>,
    /// The values of all tuples, one tuple after the other.
    tuples: Vec<Value<'a>>,
    /// The values of all dicts, in the order in which they were set.
    items: Vec<Item<'a>>,
    dicts: usize,
}

impl<'a> Pickle<'a> {
    /// Runs the pickle to its end.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut code = Reader(bytes);
        let mut pickle = Self::default();
        while let Some(instruction) = Instruction::read(&mut code)? {
            pickle.follow(instruction)?;
        }
        Ok(pickle)
    }

    /// The tensors of the saved dict, with their names, or of the first of [`INNER`] within it that has any.
    pub(super) fn tensors(&self) -> Result<impl Iterator<Item = (&'a str, Result<Tensor>)>> {
        let [Value::Dict(outer)] = self.stack[..] else {
            return Err(Error::failed("it holds something other than a dict").hint(TAKE_SAFETENSORS));
        };
        let inner = INNER.into_iter().filter_map(|name| self.dict_in(outer, name));
        let dict = std::iter::once(outer).chain(inner).find(|&dict| self.tensors_in(dict).next().is_some());
        let dict = dict.ok_or_else(|| {
            Error::failed(format!("there is no tensor in its dict, nor in one called {} there", INNER.join(", ")))
                .hint(TAKE_SAFETENSORS)
        })?;
        Ok(self.tensors_in(dict).map(|(name, parts)| (name, self.tensor(parts))))
    }

    fn dict_in(&self, outer: usize, name: &str) -> Option<usize> {
        self.items.iter().find_map(|item| match (item.key, item.value) {
            (Value::Text(key), Value::Dict(dict)) if item.dict == outer && key == name => Some(dict),
            _ => None,
        })
    }

    fn tensors_in(&self, dict: usize) -> impl Iterator<Item = (&'a str, Span)> {
        self.items.iter().filter(move |item| item.dict == dict).filter_map(|item| match (item.key, item.value) {
            (Value::Text(name), Value::Tensor(parts)) => Some((name, parts)),
            _ => None,
        })
    }

    /// A tensor from the arguments of torch's `_rebuild_tensor_v2` or `_rebuild_tensor_v3`, which has the
    /// type last. Further arguments (negated or conjugated values) are refused: weights do not use them.
    fn tensor(&self, parts: Span) -> Result<Tensor> {
        let not_plain = || Error::failed("it is not a plain tensor").hint(TAKE_SAFETENSORS);
        let &[
            Value::Storage(typed, storage),
            Value::Whole(offset),
            Value::Tuple(shape),
            Value::Tuple(strides),
            _gradient,
            _hooks,
            ref rest @ ..,
        ] = self.tuple(parts)
        else {
            return Err(not_plain());
        };
        let dtype = match (typed, rest) {
            (Some(dtype), []) => dtype,
            (None, &[Value::Global(Global::Dtype(dtype))]) => dtype,
            _ => return Err(not_plain()),
        };
        let offset = usize::try_from(offset).map_err(|_| damaged("a tensor begins before its storage"))?;
        Ok(Tensor { dtype, storage, offset, shape: self.dims(shape)?, strides: self.dims(strides)? })
    }

    fn dims(&self, span: Span) -> Result<Vec<usize>> {
        // One tuple may be the shape of every tensor, so a long one could cost more than the pickle's length.
        if span.length > MAX_DIMS {
            return Err(Error::failed(format!("it must have at most {MAX_DIMS} dimensions, not {}", span.length)));
        }
        let dim = |value: &Value| match value {
            Value::Whole(dim) => usize::try_from(*dim).ok(),
            _ => None,
        };
        let dims = self.tuple(span).iter().map(dim).collect::<Option<_>>();
        dims.ok_or_else(|| damaged("a dimension of a tensor is not a count"))
    }

    fn tuple(&self, span: Span) -> &[Value<'a>] {
        &self.tuples[span.start..span.start + span.length]
    }

    fn follow(&mut self, instruction: Instruction<'a>) -> Result<()> {
        let value = match instruction {
            Instruction::Frame => return Ok(()),
            Instruction::Mark => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            Instruction::Put(place) => return self.keep(place),
            Instruction::SetItem => return self.above(2).and_then(|from| self.set(from)),
            Instruction::SetItems => return self.marked().and_then(|from| self.set(from)),
            Instruction::Append => return self.pop().map(drop),
            Instruction::Appends => return self.marked().map(|from| self.stack.truncate(from)),
            Instruction::Build => return self.build(),
            Instruction::Other => Value::Other,
            Instruction::Int(int) => Value::Whole(int),
            Instruction::Unicode(text) => Value::Text(text),
            Instruction::EmptyDict => self.new_dict(),
            Instruction::TupleOf(length) => self.above(length).map(|from| self.new_tuple(from))?,
            Instruction::Tuple => self.marked().map(|from| self.new_tuple(from))?,
            Instruction::Get(place) => self.kept(place)?,
            Instruction::Global(module, name) => Value::Global(Global::named(module, name)?),
            Instruction::StackGlobal => self.global()?,
            Instruction::BinPersId => self.storage()?,
            Instruction::Reduce => self.call()?,
        };
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        self.stack.pop().ok_or_else(|| damaged("a value is missing"))
    }

    /// The start of the last `count` values on the stack.
    fn above(&self, count: usize) -> Result<usize> {
        self.stack.len().checked_sub(count).ok_or_else(|| damaged("a value is missing"))
    }

    /// The start of the values since the last mark.
    fn marked(&mut self) -> Result<usize> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        mark.ok_or_else(|| damaged("a mark is missing"))
    }

    /// Picklers number the memo without gaps.
    fn keep(&mut self, place: Option<u32>) -> Result<()> {
        let value = *self.stack.last().ok_or_else(|| damaged("a value is missing"))?;
        let next = self.memo.len();
        match place.map_or(next, |place| place as usize) {
            place if place < next => self.memo[place] = value,
            place if place == next => self.memo.push(value),
            _ => return Err(damaged("it memoizes a value out of order")),
        }
        Ok(())
    }

    fn kept(&self, place: u32) -> Result<Value<'a>> {
        self.memo.get(place as usize).copied().ok_or_else(|| damaged("a memoized value is missing"))
    }

    fn new_dict(&mut self) -> Value<'a> {
        self.dicts += 1;
        Value::Dict(self.dicts)
    }

    fn new_tuple(&mut self, from: usize) -> Value<'a> {
        let span = Span { start: self.tuples.len(), length: self.stack.len() - from };
        self.tuples.extend(self.stack.drain(from..));
        Value::Tuple(span)
    }

    /// Moves keys and values from the stack to the dict beneath them.
    fn set(&mut self, from: usize) -> Result<()> {
        let (below, pairs) = self.stack.split_at(from);
        let (Some(&Value::Dict(dict)), true) = (below.last(), pairs.len() % 2 == 0) else {
            return Err(damaged("a dict is missing, or the value of a key"));
        };
        self.items.extend(pairs.chunks_exact(2).map(|pair| Item { dict, key: pair[0], value: pair[1] }));
        self.stack.truncate(from);
        Ok(())
    }

    /// Drops the attributes of a dict, such as the `_metadata` of a state dict.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(damaged("it gives attributes to something other than a dict")),
        }
    }

    fn global(&mut self) -> Result<Value<'a>> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => Global::named(module, name).map(Value::Global),
            _ => Err(damaged("a name is missing")),
        }
    }

    fn storage(&mut self) -> Result<Value<'a>> {
        if let Value::Tuple(parts) = self.pop()?
            && let [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(number), _, _] =
                *self.tuple(parts)
            && number.len() <= MAX_DIGITS
            && let Ok(number) = number.parse()
        {
            return Ok(Value::Storage(dtype, number));
        }
        Err(damaged("what a tensor lies in is unclear"))
    }

    fn call(&mut self) -> Result<Value<'a>> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        match (function, arguments) {
            (Value::Global(Global::OrderedDict), Value::Tuple(Span { length: 0, .. })) => Ok(self.new_dict()),
            (Value::Global(Global::RebuildTensor), Value::Tuple(parts)) => Ok(Value::Tensor(parts)),
            (Value::Global(Global::RebuildParameter), Value::Tuple(parts)) => match self.tuple(parts).first() {
                Some(&tensor @ Value::Tensor(_)) => Ok(tensor),
                _ => Err(damaged("a parameter has no tensor")),
            },
            _ => Err(damaged("it calls something that is not a function")),
        }
    }
}
