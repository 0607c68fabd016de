//! `scheduler_config.json`: the sampler and the shift that it asks for. Unsupported settings that would
//! change a film are refused.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MAX_DYNAMIC_SHIFT, Sampler, TRAIN_TIMESTEPS, check_flow_shift};
use crate::error::{Error, Result};

/// `scheduler/scheduler_config.json` of a diffusers folder: the fields that change results under flow matching.
///
/// A missing or null field has the default of its diffusers class. Other fields (betas, timestep spacing, …)
/// do not change the sigmas of a flow.
#[derive(Debug, Clone, Deserialize)]
pub struct SchedulerConfig {
    /// The diffusers class.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Shift of UniPC and DPM-Solver; 1 by default.
    pub flow_shift: Option<f64>,
    /// Shift of flow Euler; 1 by default.
    pub shift: Option<f64>,
    /// Euler: whether the shift grows with the number of tokens.
    pub use_dynamic_shifting: Option<bool>,
    /// Euler: the last sigma before 0 that the schedule is stretched to.
    pub shift_terminal: Option<f64>,
    /// Euler: the logarithm of the shift at `base_image_seq_len` tokens; 0.5 by default.
    pub base_shift: Option<f64>,
    /// Euler: the same at `max_image_seq_len` tokens; 1.15 by default.
    pub max_shift: Option<f64>,
    /// Number of tokens; 256 by default.
    pub base_image_seq_len: Option<f64>,
    /// Number of tokens; 4096 by default.
    pub max_image_seq_len: Option<f64>,
    /// Timesteps of training; 1000 by default.
    pub num_train_timesteps: Option<f64>,
    /// Order of the multistep samplers; 2 by default.
    pub solver_order: Option<usize>,
    /// Variant of the solver: `bh2` (UniPC), `midpoint` or `heun` (DPM-Solver).
    pub solver_type: Option<String>,
    /// Whether the last steps have a lower order; true by default.
    pub lower_order_final: Option<bool>,
    /// UniPC: steps, from 0, without the corrector.
    pub disable_corrector: Option<Vec<usize>>,
    /// Everything else, judged by name.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// A sampler with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// The sampler.
    pub sampler: Sampler,
    /// Order of the multistep samplers: 1 to 3 for UniPC, 1 or 2 for DPM-Solver++, 1 for the others.
    pub order: usize,
    /// DPM-Solver++: Heun's variant instead of the midpoint variant.
    #[serde(default)]
    pub heun: bool,
    /// UniPC: steps, from 0, without the corrector.
    #[serde(default)]
    pub uncorrected: Vec<usize>,
}

impl From<Sampler> for Sampling {
    /// The usual settings: order 2 if the sampler has it, midpoint, every step corrected.
    fn from(sampler: Sampler) -> Self {
        Self { sampler, order: sampler.max_order().min(2), heun: false, uncorrected: Vec::new() }
    }
}

impl SchedulerConfig {
    /// The flow shift.
    ///
    /// # Errors
    /// A shift that is not above 0 and at most 100.
    pub fn flow_shift(&self) -> Result<f64> {
        let shift = if self.class_name == EULER { self.shift } else { self.flow_shift }.unwrap_or(1.0);
        check_flow_shift(shift).map(|()| shift)
    }

    /// The flow shift for a number of tokens: [`Self::flow_shift`], or if it is dynamic, e to the power of
    /// the line through the two given points.
    ///
    /// # Errors
    /// As [`Self::flow_shift`]; too many tokens, so that the sigmas would be equal in f32.
    pub fn flow_shift_at(&self, tokens: usize) -> Result<f64> {
        if !self.is_dynamic() {
            return self.flow_shift();
        }
        let (low, high) = (self.base_image_seq_len.unwrap_or(256.0), self.max_image_seq_len.unwrap_or(4096.0));
        let (base, max) = (self.base_shift.unwrap_or(0.5), self.max_shift.unwrap_or(1.15));
        let slope = (max - base) / (high - low);
        let logarithm = tokens as f64 * slope + (base - slope * low);
        let shift = match self.text("time_shift_type", "exponential").as_str() {
            "linear" => logarithm,
            _ => logarithm.exp(),
        };
        if shift > 0.0 && shift <= MAX_DYNAMIC_SHIFT {
            return Ok(shift);
        }
        Err(Error::usage(format!("a film of {tokens} tokens is too large for a schedule with a dynamic shift"))
            .hint("set the shift, such as `--flow-shift 8`, or make a smaller or shorter film"))
    }

    fn is_dynamic(&self) -> bool {
        self.use_dynamic_shifting == Some(true) && self.class_name == EULER
    }

    /// The sampler and its settings.
    ///
    /// # Errors
    /// An unknown class, or an unsupported setting that would change the result: the error names the field,
    /// its value and the supported ones.
    pub fn sampling(&self) -> Result<Sampling> {
        for (name, value) in [
            ("use_dynamic_shifting", self.use_dynamic_shifting.map(Value::from)),
            ("shift_terminal", self.shift_terminal.map(Value::from)),
        ] {
            if let Some(value) = value.filter(|value| !off(value)) {
                return Err(unsupported(name, value, "false"));
            }
        }
        self.even_sampling()
    }

    /// The same for a model whose pipeline passes evenly spaced sigmas to the scheduler, with a dynamic
    /// shift.
    ///
    /// # Errors
    /// As [`Self::sampling`].
    pub fn even_sampling(&self) -> Result<Sampling> {
        let read: fn(&Self) -> Result<Sampling> = match self.class_name.as_str() {
            "UniPCMultistepScheduler" => Self::unipc,
            EULER => |_| Ok(Sampler::Euler.into()),
            "DPMSolverMultistepScheduler" => Self::dpm,
            other => return Err(unsupported("_class_name", other, CLASSES)),
        };
        self.check_switches()?;
        read(self)
    }

    fn unipc(&self) -> Result<Sampling> {
        self.check_flow()?;
        match self.solver_type.as_deref().unwrap_or("bh2") {
            // The other names are DPM-Solver's: the reference takes them for `bh2`.
            "bh2" | "midpoint" | "heun" | "logrho" => {}
            // B(h) = h is infinite at a final sigma of 0: the reference makes NaN of it.
            other => return Err(unsupported("solver_type", other, "`bh2`")),
        }
        let order = self.order(Sampler::UniPc)?;
        if order > 1 && self.lower_order_final == Some(false) {
            // As above: a second-order step to sigma 0 is infinitely long.
            return Err(unsupported("lower_order_final", false, "true, or `solver_order` 1"));
        }
        Ok(Sampling { order, uncorrected: self.disable_corrector.clone().unwrap_or_default(), ..Sampler::UniPc.into() })
    }

    fn dpm(&self) -> Result<Sampling> {
        self.check_flow()?;
        let algorithm = self.text("algorithm_type", "dpmsolver++");
        if !["dpmsolver++", "deis"].contains(&algorithm.as_str()) {
            return Err(unsupported("algorithm_type", algorithm, "`dpmsolver++`"));
        }
        let heun = match self.solver_type.as_deref().unwrap_or("midpoint") {
            // The other names are UniPC's: the reference takes them for `midpoint`.
            "midpoint" | "bh1" | "bh2" | "logrho" => false,
            "heun" => true,
            other => return Err(unsupported("solver_type", other, "`midpoint` or `heun`")),
        };
        Ok(Sampling { order: self.order(Sampler::DpmPp2m)?, heun, ..Sampler::DpmPp2m.into() })
    }

    fn order(&self, sampler: Sampler) -> Result<usize> {
        let most = sampler.max_order();
        let order = self.solver_order.unwrap_or(2);
        if (1..=most).contains(&order) {
            return Ok(order);
        }
        Err(unsupported("solver_order", order, format!("1 to {most}")))
    }

    /// Settings that UniPC and DPM-Solver need for flow matching: their defaults are for older diffusion
    /// models.
    fn check_flow(&self) -> Result<()> {
        let prediction = self.text("prediction_type", "epsilon");
        if prediction != "flow_prediction" {
            return Err(unsupported("prediction_type", prediction, "`flow_prediction`"));
        }
        if !self.switch("use_flow_sigmas") {
            return Err(unsupported("use_flow_sigmas", false, "true"));
        }
        let end = self.text("final_sigmas_type", "zero");
        if end != "zero" {
            return Err(unsupported("final_sigmas_type", end, "`zero`"));
        }
        Ok(())
    }

    fn check_switches(&self) -> Result<()> {
        for name in SWITCHES_OFF {
            if let Some(value) = self.rest.get(name).filter(|value| !off(value)) {
                return Err(unsupported(name, value, "false"));
            }
        }
        if self.rest.get("predict_x0").is_some_and(|value| value == false) {
            return Err(unsupported("predict_x0", false, "true"));
        }
        let kind = self.text("time_shift_type", "exponential");
        if !["exponential", "linear"].contains(&kind.as_str()) {
            return Err(unsupported("time_shift_type", kind, "`exponential` or `linear`"));
        }
        match self.num_train_timesteps {
            Some(count) if count != TRAIN_TIMESTEPS => Err(unsupported("num_train_timesteps", count, TRAIN_TIMESTEPS)),
            _ => Ok(()),
        }
    }

    fn switch(&self, name: &str) -> bool {
        self.rest.get(name).is_some_and(|value| !off(value))
    }

    fn text(&self, name: &str, default: &str) -> String {
        match self.rest.get(name) {
            None | Some(Value::Null) => default.to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

const EULER: &str = "FlowMatchEulerDiscreteScheduler";

const CLASSES: &str = "`UniPCMultistepScheduler`, `FlowMatchEulerDiscreteScheduler` or `DPMSolverMultistepScheduler`";

/// Settings of any class that would change sigmas or steps: they must be missing, null, false or 0.
const SWITCHES_OFF: [&str; 8] = [
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "invert_sigmas",
    "stochastic_sampling",
    "thresholding",
    "solver_p",
];

/// Whether a value is falsy in Python.
fn off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn unsupported(field: &str, value: impl std::fmt::Display, supported: impl std::fmt::Display) -> Error {
    Error::failed(format!("the scheduler's configuration has `{field}` = {value}, and talkie supports {supported}"))
        .hint("choose a sampler with `--sampler`, which then takes its usual settings")
}
