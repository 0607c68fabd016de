//! How much arithmetic the connectors are: see [`crate::compute::flops`] for what counts.

use super::config::{Config, Connector};
use crate::compute::flops::{attention, linear};

impl Config {
    /// The way of a prompt of `tokens` tokens to embeddings of `rows` rows.
    pub(in crate::families::ltx) fn flops(&self, tokens: usize, rows: usize) -> f64 {
        let states = self.caption_channels * self.text_proj_in_factor;
        let outputs = match self.per_modality_projections {
            true => self.video_hidden_dim + self.audio_hidden_dim,
            false => self.caption_channels,
        };
        linear(tokens, states, outputs) + blocks(&self.video(), rows) + blocks(&self.audio(), rows)
    }
}

fn blocks(connector: &Connector, rows: usize) -> f64 {
    let d = connector.dim();
    let gates = if connector.gated { linear(rows, d, connector.heads) } else { 0.0 };
    let block = 4.0 * linear(rows, d, d) + gates + attention(rows, rows, d) + 2.0 * linear(rows, d, 4 * d);
    connector.layers as f64 * block
}
