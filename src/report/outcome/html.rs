//! The report as an HTML page: one file without other files, network or scripts. All text goes through `maud`, which
//! escapes it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::size;
use super::super::status::{PartitionState, PartitionStatus, TableStatus, duration, thousands};
use super::{Outcome, Planned, RunResult, Side, charts};

/// The highest number of partitions of a table that are listed, besides partitions that are not as they should be. The
/// limit lets a page open at once.
const MAX_LISTED: usize = 2000;
/// The highest number of partitions of a batch that are named in the plan.
const MAX_NAMED: usize = 8;

const STYLE: &str = include_str!("page.css");

/// Returns the page.
pub(super) fn page(outcome: &Outcome) -> String {
    let (status, total) = (&outcome.status, &outcome.status.total);
    let (done, all) = (total.count(PartitionState::Done), total.all_partitions());
    let rate = outcome.throughput.as_ref().map(|throughput| {
        let bytes: u64 = throughput.bytes.iter().sum();
        bytes as f64 * 1000.0 / (throughput.ended.0 - throughput.began.0).max(1) as f64
    });
    let tone = match outcome.outcome {
        RunResult::Finished | RunResult::WasFinished => "good",
        RunResult::Interrupted | RunResult::Cancelled => "odd",
        RunResult::Uncleaned
        | RunResult::Unaccounted
        | RunResult::Different
        | RunResult::Partial
        | RunResult::Failed => "bad",
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // A page that is sent by mail must make no requests.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { "Copy of " (status.path) ": " (outcome.headline()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Copy of " code { (status.path) } " " span id="outcome" class=(tone) { (outcome.headline()) } }
                    @if let Some(error) = &outcome.error {
                        p id="error" class="bad" { (error) }
                    }
                    dl class="tiles" {
                        (tile("partitions published", &format!("{} of {}", thousands(done as u64), thousands(all as u64))))
                        (tile("rows on the target", &thousands(total.rows_published)))
                        (tile("copied, uncompressed", &size(total.bytes_copied)))
                        @if let Some(rate) = rate { (tile("copied a second", &size(rate as u64))) }
                        (tile("this run took", &duration(outcome.seconds.ceil() as u64)))
                        (tile("retries", &thousands(total.retries.into())))
                    }
                    p class="small" {
                        "Task " code { (outcome.task()) } ", worker " code { (outcome.worker) } " (version " (outcome.version)
                        "), ended " (outcome.ended) ", exit code " (outcome.exit_code) "."
                    }
                    (warnings(outcome))
                    (course(outcome))
                    @for table in &status.tables { (table_section(table)) }
                    (shards(outcome))
                    @if !outcome.plans.is_empty() {
                        h2 { "Plan" }
                        @for plan in &outcome.plans { (plan_section(plan)) }
                    }
                }
            }
        }
    }
    .into_string()
}

fn tile(what: &str, value: &str) -> Markup {
    html! { div { dt { (what) } dd { (value) } } }
}

fn warnings(outcome: &Outcome) -> Markup {
    html! {
        @if !outcome.status.errors.is_empty() {
            h2 { "Not done" }
            ul id="errors" class="bad" {
                @for error in &outcome.status.errors { li { strong { (error.what) } ": " (error.error) } }
            }
        }
        @if !outcome.warnings.is_empty() {
            h2 { "Warnings" }
            ul id="warnings" { @for warning in &outcome.warnings { li { (warning) } } }
        }
    }
}

fn course(outcome: &Outcome) -> Markup {
    let tables = &outcome.status.tables;
    let partitions: Vec<(&str, &PartitionStatus)> = tables
        .iter()
        .flat_map(|table| table.partitions.iter().map(|partition| (table.name.as_str(), partition)))
        .collect();
    html! {
        @if let Some(throughput) = &outcome.throughput {
            h2 { "Throughput" }
            p { "Uncompressed bytes that were copied in a second, by all workers; the bytes of a piece are spread over its time." }
            figure id="throughput" { (charts::throughput(throughput)) }
        }
        @if let Some((plot, left_out)) = charts::partitions(&partitions) {
            h2 { "Time per partition" }
            p {
                (key("a", "copying")) (key("b", "until published"))
                @if left_out > 0 { " The longest; " (left_out) " more are in the tables." }
            }
            figure id="times" { (plot) }
        }
        @if outcome.spent.total() > 0 {
            h2 { "Where the time went" }
            figure { (charts::spent(&outcome.spent)) }
            table id="spent" {
                thead { tr { th scope="col" { "what all jobs of all workers did" } th scope="col" class="n" { "time" }
                    th scope="col" class="n" { "share" } } }
                tbody {
                    @for ((what, millis), class) in outcome.spent.named().iter().zip(charts::CLASSES) {
                        tr {
                            th scope="row" { (key(class, what)) }
                            td class="n" data-millis=(millis) { (charts::seconds(*millis)) }
                            td class="n" { (format!("{:.0} %", *millis as f64 * 100.0 / outcome.spent.total() as f64)) }
                        }
                    }
                }
            }
        }
    }
}

fn key(class: &str, words: &str) -> Markup {
    html! { span class=(format!("key {class}")) {} (words) " " }
}

fn table_section(table: &TableStatus) -> Markup {
    let odd = |partition: &PartitionStatus| partition.rows_published != Some(partition.rows);
    let listed = |(index, partition): &(usize, &PartitionStatus)| *index < MAX_LISTED || odd(partition);
    let shown: Vec<&PartitionStatus> =
        table.partitions.iter().enumerate().filter(listed).map(|(_, partition)| partition).collect();
    html! {
        h2 { "Table " (table.name) }
        p { code { (table.source) } " → " code { (table.target) } }
        @if table.unchanged > 0 {
            p { (thousands(table.unchanged as u64)) " partitions that were copied before are unchanged." }
        }
        @if !table.remarks.is_empty() { ul class="remarks" { @for remark in &table.remarks { li { (remark) } } } }
        div class="wide" {
            table class="partitions" {
                thead { tr {
                    th scope="col" { "partition" } th scope="col" { "state" } th scope="col" class="n" { "rows selected" }
                    th scope="col" class="n" { "rows on target" } th scope="col" class="n" { "bytes" }
                    th scope="col" class="n" { "seconds" } th scope="col" class="n" { "retries" }
                    th scope="col" { "verified by" } th scope="col" { "published" }
                } }
                tbody { @for partition in &shown { (row(partition)) } }
            }
        }
        @if shown.len() < table.partitions.len() {
            p class="small" { "and " (thousands((table.partitions.len() - shown.len()) as u64)) " more, equal on both sides" }
        }
        @if table.partitions.iter().any(|partition| partition.together > 1) {
            p class="small" { "* of all partitions that were copied together with it" }
        }
    }
}

fn row(partition: &PartitionStatus) -> Markup {
    html! {
        tr {
            th scope="row" { (partition.name) }
            td class=[(partition.state == PartitionState::Failed).then_some("bad")] {
                (partition.state)
                @if let Some(error) = &partition.error { ": " (error) }
            }
            td class="n" { (thousands(partition.rows)) }
            td class="n" { @if let Some(rows) = partition.rows_published { (thousands(rows)) } @else { "–" } }
            td class="n" { (size(partition.bytes)) }
            td class="n" {
                (format!("{:.1}", partition.millis as f64 / 1000.0)) @if partition.together > 1 { "*" }
            }
            td class="n" { (partition.retries) }
            td { @match (partition.rows_published, partition.compared) {
                (None, _) => {},
                (Some(_), true) => "count, checksum",
                (Some(_), false) => "count",
            } }
            td { @if let Some(moment) = partition.published_at { (moment) } }
        }
    }
}

fn shards(outcome: &Outcome) -> Markup {
    if outcome.shards.is_empty() {
        return html! {};
    }
    let name = |side| match side {
        Side::Source => "source, before",
        Side::Target => "target, after",
    };
    html! {
        h2 { "Shards before and after" }
        p class="small" {
            "Uncompressed bytes: of the source what was planned, of the target what system.parts of one replica has now in the
             partitions of this task."
        }
        @for table in &outcome.status.tables {
            @let table_shards: Vec<_> = outcome.shards.iter().filter(|shard| shard.table == table.name).collect();
            @if !table_shards.is_empty() {
                h3 { (table.name) }
                figure { (charts::shards(&table_shards)) }
            }
        }
        table id="shards" {
            thead { tr { th scope="col" { "table" } th scope="col" { "side" } th scope="col" class="n" { "shard" }
                th scope="col" class="n" { "rows" } th scope="col" class="n" { "bytes" } th scope="col" { "node" } } }
            tbody {
                @for shard in &outcome.shards {
                    tr {
                        th scope="row" { (shard.table) } td { (name(shard.side)) } td class="n" { (shard.shard) }
                        td class="n" { (thousands(shard.rows)) } td class="n" { (size(shard.bytes)) }
                        td { @if let Some(node) = &shard.node { (node) } @if shard.whole_table { " (the whole table)" } }
                    }
                }
            }
        }
    }
}

fn plan_section(plan: &Planned) -> Markup {
    let pieces: usize = plan.batches.iter().map(|batch| batch.pieces).sum();
    let partitions: usize = plan.batches.iter().map(|batch| batch.partitions.len()).sum();
    html! {
        h3 { (plan.table) }
        p {
            (thousands(partitions as u64)) " partitions in " (thousands(plan.batches.len() as u64)) " batches and "
            (thousands(pieces as u64)) " pieces, " (plan.columns.len()) " columns."
            @if !plan.partition_key.is_empty() { " Partition key: " code { (plan.partition_key.join(", ")) } "." }
            @if let Some(key) = &plan.sharding_key { " Sharding key: " code { (key) } "." }
            @if let Some(condition) = &plan.condition { " Only rows where " code { (condition) } "." }
            @if plan.clones { " Parts are fetched as files." }
        }
        details {
            summary { "Columns" }
            p { @for (index, column) in plan.columns.iter().enumerate() { @if index > 0 { ", " } code { (column) } } }
        }
        details {
            summary { "Batches" }
            table {
                thead { tr { th scope="col" class="n" { "batch" } th scope="col" { "partitions" } th scope="col" class="n" { "pieces" }
                    th scope="col" class="n" { "rows" } th scope="col" class="n" { "bytes" } } }
                tbody {
                    @for (index, batch) in plan.batches.iter().enumerate().take(MAX_LISTED) {
                        tr {
                            th scope="row" class="n" { (index) }
                            td {
                                (batch.partitions.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", "))
                                @if batch.partitions.len() > MAX_NAMED { " and " (batch.partitions.len() - MAX_NAMED) " more" }
                            }
                            td class="n" { (batch.pieces) } td class="n" { (thousands(batch.rows)) }
                            td class="n" { (size(batch.bytes)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use scraper::{ElementRef, Html, Selector};
    use serde_json::Value;

    use super::super::tests::outcome;
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>\"'&amp;</title></style>";

    fn texts(page: &Html, selector: &str) -> Vec<String> {
        let selector = Selector::parse(selector).unwrap();
        page.select(&selector).map(|element: ElementRef| element.text().collect::<String>()).collect()
    }

    #[test]
    fn the_page_has_the_numbers_of_the_json() {
        let outcome = outcome();
        let json: Value = serde_json::to_value(&outcome).unwrap();
        let text = page(&outcome);
        let page = Html::parse_document(&text);
        assert!(page.errors.is_empty(), "{:?}", page.errors);
        assert_eq!(texts(&page, "#outcome"), ["partitions have failed"]);
        assert_eq!(texts(&page, ".partitions tbody th"), ["a|b"]);
        let partition = &json["tables"][0]["partitions"][0];
        assert_eq!(texts(&page, ".partitions tbody td:nth-child(3)"), [partition["rows"].to_string()]);
        assert_eq!(texts(&page, ".partitions tbody td:nth-child(7)"), [partition["retries"].to_string()]);
        let spent = json["spent"].as_object().unwrap();
        let millis = Selector::parse("#spent td[data-millis]").unwrap();
        let shown: Vec<u64> =
            page.select(&millis).map(|cell| cell.attr("data-millis").unwrap().parse().unwrap()).collect();
        assert_eq!(shown.iter().sum::<u64>(), spent.values().map(|value| value.as_u64().unwrap()).sum::<u64>());
        assert_eq!(texts(&page, "#shards td:nth-child(4)"), [json["shards"][0]["rows"].to_string()]);
        let bars = Selector::parse("#throughput rect").unwrap();
        assert_eq!(page.select(&bars).count(), json["throughput"]["bytes"].as_array().unwrap().len());
        assert_eq!(texts(&page, "#warnings li"), ["task.xml: odd"]);
        for head in page.select(&Selector::parse("th").unwrap()) {
            assert!(head.attr("scope").is_some(), "{}", head.html());
        }
    }

    #[test]
    fn the_page_escapes_all_text_and_loads_nothing_from_other_sites() {
        let mut outcome = outcome();
        outcome.status.path = EVIL.into();
        outcome.error = Some(EVIL.into());
        outcome.warnings = vec![EVIL.into()];
        let table = &mut outcome.status.tables[0];
        (table.name, table.source) = (EVIL.into(), EVIL.into());
        (table.partitions[0].name, table.partitions[0].error) = (EVIL.into(), Some(EVIL.into()));
        outcome.shards[0].table = EVIL.into();
        let text = page(&outcome);
        let page = Html::parse_document(&text);
        assert_eq!(texts(&page, "script"), Vec::<String>::new());
        assert!(page.errors.is_empty(), "{:?}", page.errors);
        assert_eq!(texts(&page, "#error"), [EVIL]);
        assert_eq!(texts(&page, ".partitions tbody th"), [EVIL]);
        assert_eq!(texts(&page, "title").concat().matches(EVIL).count(), 1);
        for element in page.select(&Selector::parse("*").unwrap()) {
            for (name, value) in element.value().attrs() {
                assert!(!["src", "href", "srcset", "action", "data"].contains(&name), "{name}={value}");
                assert!(!name.starts_with("on"), "{name}={value}");
            }
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
