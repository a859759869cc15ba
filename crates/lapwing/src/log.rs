//! The log on standard error, as it is set up once, and its level, which can change.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// By which the level is changed.
#[derive(Clone)]
pub(crate) struct LogHandle(reload::Handle<LevelFilter, Registry>);

/// Begins to log.
pub(crate) fn start(config: &Log) -> LogHandle {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let lines = fmt::layer().with_target(false).with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_ansi(false)
            .boxed(),
    };
    tracing_subscriber::registry().with(filter).with(filter_fn(is_ours_to_show)).with(lines).init();
    limit_libraries(config.level);
    LogHandle(handle)
}

impl LogHandle {
    /// From now on these lines are written.
    pub(crate) fn set(&self, level: LogLevel) {
        // It fails only where there is no subscriber any more, and then nothing is logged.
        let _ = self.0.reload(filter(level));
        limit_libraries(level);
    }
}

/// Not what carries a question to a service over HTTP: at its finest it says byte by byte what is sent, and that is secret. What goes
/// wrong there is said where the question is asked.
fn is_ours_to_show(metadata: &tracing::Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    !["ureq", "ureq_proto", "rustls"].contains(&library)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// What libraries say by way of `log`: as a rule only what is wrong.
fn limit_libraries(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Trace => log::LevelFilter::Trace,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn | LogLevel::Info => log::LevelFilter::Warn,
    });
}
