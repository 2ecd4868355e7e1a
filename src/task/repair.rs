//! Turns a task's text into that of a task which copies some of its partitions again and replaces the target's rows.

use quick_xml::escape::escape;

use super::tables::JobNames;
use super::xml::written_children;

/// Elements that decide which partitions are copied, and about rows that the target already holds.
const DECIDED: [&str; 3] = ["enabled_partitions", "if_target_not_empty", "allow_to_drop_target_partitions"];

/// Some partitions of a table job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TablePartitions {
    /// The job's name.
    pub(crate) table: String,
    /// The names of the partitions.
    pub(crate) partitions: Vec<String>,
}

/// Returns a task that replaces partitions: those of `wanted`; without names, all of the job's partitions. Other jobs
/// are left out. The text must have been parsed before.
pub(crate) fn replacing(text: &str, wanted: &[TablePartitions]) -> String {
    let mut out = String::from("<clickhouse>\n");
    for (name, written) in written_children(text) {
        match name.as_str() {
            "tables" => {
                out.push_str("<tables>\n");
                let mut names = JobNames::default();
                for (element, written) in written_children(written) {
                    let job = names.next(&element);
                    if let Some(wanted) = wanted.iter().find(|wanted| wanted.table == job) {
                        table(&mut out, &element, written, &wanted.partitions);
                    }
                }
                out.push_str("</tables>\n");
            }
            decided if DECIDED.contains(&decided) => {}
            _ => line(&mut out, written),
        }
    }
    out.push_str("</clickhouse>\n");
    out
}

fn table(out: &mut String, job: &str, written: &str, partitions: &[String]) {
    line(out, &format!("<{job}>"));
    for (name, written) in written_children(written) {
        // Partitions that the task names stay if none are chosen.
        let decided = DECIDED.contains(&name.as_str()) && (name != "enabled_partitions" || !partitions.is_empty());
        if !decided {
            line(out, written);
        }
    }
    if !partitions.is_empty() {
        let named: Vec<String> =
            partitions.iter().map(|name| format!("<partition>{}</partition>", escape(name.as_str()))).collect();
        line(out, &format!("<enabled_partitions>{}</enabled_partitions>", named.concat()));
    }
    line(out, "<if_target_not_empty>replace</if_target_not_empty>");
    line(out, &format!("</{job}>"));
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_task_replaces_the_chosen_partitions_and_keeps_other_elements() {
        let text = "<?xml version=\"1.0\"?><yandex><if_target_not_empty>fail</if_target_not_empty><remote_servers><a/>\
                    </remote_servers><tables><hits><cluster_pull>a</cluster_pull><where_condition>x &lt; 1</where_condition>\
                    <enabled_partitions>'old'</enabled_partitions></hits><other><x/></other></tables></yandex>";
        let hits = |partitions| [TablePartitions { table: "hits".into(), partitions }];
        let repair = replacing(text, &hits(vec!["('a<b', 1)".into(), "2".into()]));
        assert_eq!(
            repair.replace('\n', ""),
            "<clickhouse><remote_servers><a/></remote_servers><tables><hits><cluster_pull>a</cluster_pull>\
             <where_condition>x &lt; 1</where_condition><enabled_partitions><partition>(&apos;a&lt;b&apos;, 1)</partition>\
             <partition>2</partition></enabled_partitions><if_target_not_empty>replace</if_target_not_empty></hits></tables>\
             </clickhouse>"
        );
        let all = replacing(text, &hits(Vec::new()));
        assert!(all.contains("<enabled_partitions>'old'</enabled_partitions>"), "{all}");
    }
}
