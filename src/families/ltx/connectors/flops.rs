//! FLOP count of the connectors, as [`crate::compute::flops`] defines it.

use super::config::{Config, Connector};
use crate::compute::flops::{attention, linear};

impl Config {
    /// FLOPs from a prompt of `tokens` tokens to embeddings of `rows` rows.
    pub(in crate::families::ltx) fn flops(&self, tokens: usize, rows: usize) -> f64 {
        let states = self.caption_channels * self.text_proj_in_factor;
        let outputs = if self.per_modality_projections {
            self.video_hidden_dim + self.audio_hidden_dim
        } else {
            self.caption_channels
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
