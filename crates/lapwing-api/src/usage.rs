//! Who takes how much of memory and disk.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use std::io;
use std::path::Path;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::process::Process;
use crate::router::Api;
use crate::sessions::Session;

/// Sessions that are shown where the request does not say.
const TOP: usize = 10;
/// Sessions that are shown at the most.
const TOP_MAXIMUM: usize = 100;

/// Who takes how much of memory and disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// What is in memory, in bytes.
    pub memory: MemoryUsage,
    /// What is on the disk, in bytes.
    pub disk: DiskUsage,
    /// The sessions that take the most, the heaviest first.
    pub sessions: Vec<Session>,
}

/// What is in memory, in bytes. What is not here is code, buffers, indexes, and what the allocator keeps for later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryUsage {
    /// Resident memory of the process; absent where the system does not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resident: Option<u64>,
    /// Retained messages.
    pub retained: u64,
    /// Messages that wait for sessions. One that waits for several counts for each, although it is there once.
    pub queued: u64,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight: u64,
    /// About what subscriptions take.
    pub subscriptions: u64,
    /// What waits to be written to connections.
    pub outboxes: u64,
    /// What waits for shards of what other threads have sent them.
    pub mailboxes: u64,
}

/// What is on the disk, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskUsage {
    /// All files in the data directory; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_directory: Option<u64>,
    /// Messages that wait for sessions on the disk only. One that waits for several counts for each.
    pub queued: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// How many sessions are shown, from 0 to 100; 10 if absent.
    #[param(minimum = 0, maximum = 100)]
    top: Option<usize>,
}

/// Who takes how much of memory and disk. Every session is looked at for it.
#[utoipa::path(get, path = "/api/v1/usage", tag = "broker", params(UsageQuery),
    responses(
        (status = 200, description = "Sums, and the sessions that take the most.", body = Usage),
        (status = 400, description = "`top_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn usage(
    State(api): State<Api>,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<Usage>, Problem> {
    let Query(UsageQuery { top }) = query?;
    let top = top.unwrap_or(TOP);
    if top > TOP_MAXIMUM {
        return Err(Problem::invalid("top_invalid", format!("`top` is a number from 0 to {TOP_MAXIMUM}")));
    }
    let directory = api.data.clone();
    let (found, data_directory) = api
        .ask(move |control| {
            let directory = directory.and_then(|directory| disk_bytes(&directory).ok());
            (control.heaviest(top), directory)
        })
        .await?;
    let (all, sessions) = found?;
    let memory = MemoryUsage {
        resident: Process::now().resident_bytes,
        retained: api.control.stat().retained_bytes,
        queued: all.queued_bytes as u64,
        in_flight: all.in_flight_bytes as u64,
        subscriptions: all.subscription_bytes as u64,
        outboxes: all.outbox_bytes as u64,
        mailboxes: api.control.shards().iter().map(|shard| shard.mailbox_bytes as u64).sum(),
    };
    let disk = DiskUsage { data_directory, queued: all.spilled_bytes as u64 };
    Ok(Json(Usage { memory, disk, sessions: sessions.into_iter().map(Session::from).collect() }))
}

/// What all files below a directory take of the disk. A file that goes away meanwhile takes nothing.
fn disk_bytes(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => Ok(metadata.blocks() * BLOCK),
            Err(error) => Err(error),
        }
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) })?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_directory_and_below_are_summed() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(disk_bytes(directory.path()).unwrap(), 0);
        std::fs::create_dir(directory.path().join("below")).unwrap();
        std::fs::write(directory.path().join("below/a"), vec![1; 100_000]).unwrap();
        std::fs::write(directory.path().join("b"), vec![1; 50_000]).unwrap();
        let bytes = disk_bytes(directory.path()).unwrap();
        assert!((150_000..300_000).contains(&bytes), "{bytes}");
        assert!(disk_bytes(&directory.path().join("nowhere")).is_err());
    }
}
