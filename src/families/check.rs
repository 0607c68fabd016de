//! Checks of a configuration's fields, where each refusal names the field, what it must be, and its value;
//! and of tensors.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::families::latents::is_finite;

/// The checks of one network's configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    /// The network, as the message names it.
    pub network: &'static str,
    /// Advice for a configuration that is refused.
    pub hint: &'static str,
}

impl Check {
    /// The error for fields that contradict each other, or that no network has.
    pub(super) fn wrong(&self, why: impl Display) -> Error {
        Error::failed(format!("the configuration of the {} is wrong: {why}", self.network)).hint(self.hint)
    }

    /// The error for a field that is `value` and must be `wanted`.
    pub(super) fn must(&self, field: &str, wanted: impl Display, value: impl Display) -> Error {
        self.wrong(format!("`{field}` must be {wanted}, not {value}"))
    }

    /// A number inside a range, both ends included.
    ///
    /// # Errors
    /// A number outside, and NaN.
    pub(super) fn within<T: PartialOrd + Display>(
        &self,
        field: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<()> {
        if range.contains(&value) {
            return Ok(());
        }
        let (low, high) = range.into_inner();
        let wanted = if low == high { low.to_string() } else { format!("{low} to {high}") };
        Err(self.must(field, wanted, value))
    }

    /// A switch, word or number of which talkie knows one value only.
    ///
    /// # Errors
    /// Another value.
    pub(super) fn exactly<T: PartialEq + Debug>(&self, field: &str, value: T, wanted: T) -> Result<()> {
        if value == wanted { Ok(()) } else { Err(self.must(field, format!("{wanted:?}"), format!("{value:?}"))) }
    }

    /// The epsilon of a norm.
    ///
    /// # Errors
    /// A number that is not above 0 and below 1.
    pub(super) fn epsilon(&self, field: &str, value: f64) -> Result<()> {
        if value > 0.0 && value < 1.0 { Ok(()) } else { Err(self.must(field, "above 0 and below 1", value)) }
    }
}

/// Refuses a tensor with values that are not finite; `what` names it.
///
/// # Errors
/// Infinity or NaN.
pub(super) fn finite(values: &Tensor, what: &str) -> Result<()> {
    if is_finite(values)? {
        return Ok(());
    }
    Err(Error::failed(format!("values of {what} are not finite"))
        .hint("try `--dtype f32`; otherwise the weights, or the file that they come from, are damaged"))
}
