//! How far a transfer is, for people and for programs.
//!
//! Lives here: one bar, or one JSON object a line. Where standard error is no terminal there is no bar.

use std::{fmt::Write as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::driver::files::{HealNews, get::GetNews, put::PutNews};

const SEARCH: &str = "{spinner} {msg}";
const BYTES: &str = "{wide_bar} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {msg}";
const BLOCKS: &str = "{wide_bar} {msg}";
const TICK: Duration = Duration::from_millis(200);

/// The bar.
#[derive(Debug)]
pub(in crate::cli) struct Progress {
    bar: ProgressBar,
    json: bool,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress {
    pub(in crate::cli) fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(style(SEARCH));
        Self { bar, json }
    }

    /// News as they came, for programs.
    pub(in crate::cli) fn raw(&self, news: &[u8]) {
        if self.json {
            super::super::say(format_args!("{}", String::from_utf8_lossy(news)));
        }
    }

    /// Nothing is known yet.
    pub(in crate::cli) fn search(&self) {
        self.bar.set_message("searching");
        self.bar.enable_steady_tick(TICK);
    }

    /// Bytes came.
    pub(in crate::cli) fn bytes(&self, len: usize) {
        self.bar.inc(len as u64);
    }

    pub(in crate::cli) fn get(&self, news: &GetNews) {
        let Some(len) = news.len else {
            let GetNews { asked, found, routers, exits, .. } = news;
            self.bar.set_message(format!(
                "searching: {asked} requests through {exits} tunnels, {found} found, {routers} routers"
            ));
            return;
        };
        if self.bar.length() != Some(len) {
            self.bar.set_style(style(BYTES));
            self.bar.set_length(len);
            self.bar.set_position(news.bytes);
        }
        let mut message = format!("{} tunnels", news.exits);
        if news.missing > 0 {
            let _ = write!(message, ", {} blocks missing so far", news.missing);
        }
        self.bar.set_message(message);
    }

    pub(in crate::cli) fn put(&self, news: &PutNews) {
        if news.blocks == 0 {
            self.bar.set_message("reading");
            return;
        }
        if self.bar.length() != Some(news.blocks) {
            self.bar.set_style(style(BLOCKS));
            self.bar.set_length(news.blocks);
        }
        self.bar.set_position(news.stored);
        let PutNews { encoded, stored, blocks, objects, objects_done, exits, .. } = news;
        let mut message = format!("encoded {encoded}, stored {stored} of {blocks} blocks");
        if let Some(copies) = news.copies_min {
            let _ = write!(message, " ({copies} copies or more)");
        }
        if *objects > 1 {
            let _ = write!(message, ", part {} of {objects}", (objects_done + 1).min(*objects));
        }
        let _ = write!(message, ", {exits} tunnels");
        if news.waiting > 0 {
            let _ = write!(message, ", {} wait for another try", news.waiting);
        }
        self.bar.set_message(message);
    }

    pub(in crate::cli) fn words(&self, words: String) {
        self.bar.set_message(words);
    }

    pub(in crate::cli) fn heal(&self, news: &HealNews) {
        let HealNews { found, missing, rebuilt, stored, objects, objects_done, .. } = news;
        self.bar.set_message(format!(
            "part {} of {objects}: {found} blocks found, {missing} missing, {rebuilt} rebuilt, {stored} put back",
            (objects_done + 1).min(*objects)
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
