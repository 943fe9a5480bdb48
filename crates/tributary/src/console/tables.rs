//! The summaries that people read, and what they are made of.

use indicatif::HumanBytes;
use tributary_flow::{LoadReport, PartitionTotals, SyncReport};

/// The summary of `sync` for people.
pub(crate) fn sync_table(report: &SyncReport, seconds: f64) -> String {
    let mut rows = vec![
        [
            "collection",
            "loaded",
            "changes",
            "upserted",
            "deleted",
            "rescued",
            "table",
        ]
        .map(str::to_owned),
    ];
    let mut changes = 0;
    for collection in &report.collections {
        let loaded = collection.loaded.as_ref().map(|loaded| loaded.totals);
        let loaded = loaded.unwrap_or_default();
        changes += collection.changes;
        rows.push([
            collection.namespace.to_string(),
            group(loaded.documents),
            group(collection.changes),
            group(collection.applied.upserted),
            group(collection.applied.deleted),
            group(loaded.rescued + collection.applied.rescued),
            collection.table.clone(),
        ]);
    }
    let mut text = format!(
        "{}\n{} changes in {seconds:.1} s",
        aligned(&rows),
        group(changes)
    );
    if !report.other_events.is_empty() {
        let events = report.other_events.iter();
        let events: Vec<String> = events
            .map(|(name, count)| format!("{} {name}", group(*count)))
            .collect();
        text.push_str(&format!(
            "; events that change no document: {}",
            events.join(", ")
        ));
    }
    text
}

/// The summary table for people.
pub(crate) fn summary_table(report: &LoadReport, seconds: f64) -> String {
    let mut rows = vec![
        [
            "collection",
            "documents",
            "BSON",
            "files",
            "rescued",
            "seconds",
            "table",
        ]
        .map(str::to_owned),
    ];
    let mut all = PartitionTotals::default();
    let mut rewritten = 0;
    for outcome in &report.collections {
        let Ok(summary) = &outcome.result else {
            continue;
        };
        all += summary.totals;
        rewritten += summary.rewritten_bytes;
        rows.push([
            outcome.namespace.to_string(),
            group(summary.totals.documents),
            HumanBytes(summary.totals.bytes).to_string(),
            format!("{} ({})", summary.files, HumanBytes(summary.file_bytes)),
            group(summary.totals.rescued),
            format!("{:.1}", outcome.elapsed.as_secs_f64()),
            summary.table.clone(),
        ]);
    }
    let mut text = aligned(&rows);
    let rate = HumanBytes((all.bytes as f64 / seconds.max(0.001)) as u64);
    text.push_str(&format!(
        "\n{} documents, {} in {seconds:.1} s ({rate}/s)",
        group(all.documents),
        HumanBytes(all.bytes)
    ));
    if rewritten > 0 {
        text.push_str(&format!(
            "; {} written again because a column widened",
            HumanBytes(rewritten)
        ));
    }
    if all.rescued > 0 {
        text.push_str(&format!(
            "; {} values kept in _rescued_data",
            group(all.rescued)
        ));
    }
    text
}

/// Rows with their columns one below the other.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// A number with a space between its thousands.
pub(crate) fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}
