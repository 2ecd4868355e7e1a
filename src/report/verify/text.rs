//! The report as text.

use std::fmt;

use super::{ComparisonResult, KeyReport, PartitionReport, TableReport, VerifyReport};
use crate::model::{counted, one_line, sentence};

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for remark in &self.remarks {
            writeln!(f, "remark: {}", sentence(remark))?;
        }
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        let all = [ComparisonResult::Equal, ComparisonResult::Expected, ComparisonResult::Different]
            .map(|outcome| self.count(outcome));
        let [equal, expected, different] = all;
        write!(f, "{} compared by {}: {equal} equal", counted(all.iter().sum(), "partition"), self.by)?;
        if expected > 0 {
            write!(f, ", {expected} not, as expected")?;
        }
        write!(f, ", {different} different")?;
        let missed: usize = self.tables.iter().map(|table| table.not_compared.len()).sum();
        if missed > 0 {
            write!(f, "; {missed} could not be compared")?;
        }
        let left_out: usize = self.tables.iter().map(|table| table.left_out).sum();
        if let Some(sample) = &self.sample {
            write!(f, "; {left_out} not in the sample of {}/{}", sample.take, sample.classes)?;
        }
        let end = match self.verdict {
            ComparisonResult::Equal | ComparisonResult::Expected => "",
            ComparisonResult::Unknown => ". Not everything could be compared",
            ComparisonResult::Different => ". Source and target DIFFER",
        };
        write!(f, "{end}.")
    }
}

impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [table, source, target] = [&self.table, &self.source, &self.target].map(|text| one_line(text));
        writeln!(f, "{table}: {source} → {target}")?;
        for remark in &self.remarks {
            writeln!(f, "  remark: {}", sentence(remark))?;
        }
        for partition in &self.partitions {
            writeln!(f, "  {partition}")?;
            for misplaced in &partition.misplaced {
                writeln!(f, "    {}", one_line(misplaced))?;
            }
            for key in &partition.keys {
                writeln!(f, "    {}: {}", self.key_text(&key.key), key.rows())?;
            }
            if partition.more_keys > 0 {
                let (least, about) = if partition.more_at_least { ("at least ", "about ") } else { ("", "") };
                write!(f, "    and {least}{} more (--keys)", partition.more_keys)?;
                match &partition.between {
                    Some((first, last)) => {
                        writeln!(f, ", {about}from {} to {}", self.key_text(first), self.key_text(last))?
                    }
                    None => writeln!(f)?,
                }
            }
            if partition.verdict == ComparisonResult::Different
                && partition.keys.is_empty()
                && partition.misplaced.is_empty()
                && partition.keys_error.is_none()
                && partition.more_keys == 0
            {
                writeln!(f, "    no key differs any more: the rows change while they are compared")?;
            }
            if let Some(error) = &partition.keys_error {
                writeln!(f, "    which keys differ could not be found out: {}", sentence(error))?;
            }
        }
        if let Some(error) = &self.error {
            writeln!(f, "  NOT COMPARED {}: {}", one_line(&self.not_compared.join(", ")), sentence(error))?;
        }
        Ok(())
    }
}

impl TableReport {
    /// Returns a key such as `d 2018-01-01, id 5`.
    fn key_text(&self, key: &[String]) -> String {
        let key_text = self.key_columns.iter().zip(key);
        let key_text: Vec<String> =
            key_text.map(|(column, value)| format!("{} {}", one_line(column), one_line(value))).collect();
        key_text.join(", ")
    }
}

impl KeyReport {
    fn rows(&self) -> String {
        let rows = |count: u64| if count == 0 { "no row".to_owned() } else { counted(count as usize, "row") };
        match (self.source_rows, self.target_rows) {
            (source, target) if source == target => format!("{} on both sides, with other contents", rows(source)),
            (source, target) => format!("{} on the source, {} on the target", rows(source), rows(target)),
        }
    }
}

impl fmt::Display for PartitionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", one_line(&self.partition))?;
        let rows = counted(self.source_rows as usize, "row");
        match (self.verdict, &self.reason) {
            (ComparisonResult::Equal, _) => write!(f, "{rows}, equal"),
            (ComparisonResult::Expected, Some(reason)) if self.source_rows == self.target_rows => {
                write!(f, "{rows} on both sides, with other contents, as expected: {reason}")
            }
            (ComparisonResult::Expected, Some(reason)) => {
                write!(f, "{rows} on the source, {} on the target, as expected: {reason}", self.target_rows)
            }
            _ if self.source_rows != self.target_rows => {
                write!(f, "DIFFERENT: {rows} on the source, {} on the target", self.target_rows)
            }
            _ if !self.misplaced.is_empty() => write!(f, "DIFFERENT: {rows} on both sides, not where they belong"),
            _ => write!(f, "DIFFERENT: {rows} on both sides, with other contents"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn partition(name: &str, verdict: ComparisonResult, source_rows: u64, target_rows: u64) -> PartitionReport {
        PartitionReport {
            partition: name.into(),
            verdict,
            reason: None,
            source_rows,
            target_rows,
            misplaced: Vec::new(),
            keys: Vec::new(),
            more_keys: 0,
            more_at_least: false,
            between: None,
            keys_error: None,
        }
    }

    #[test]
    fn differences_are_listed_by_key() {
        let key = |id: &str, source_rows, target_rows| KeyReport {
            key: vec!["2018-01-01".into(), id.into()],
            source_rows,
            target_rows,
            contents_differ: Some(true),
        };
        let different = PartitionReport {
            keys: vec![key("5", 1, 0), key("6", 1, 2), key("a\nb", 1, 1)],
            more_keys: 3,
            more_at_least: true,
            between: Some((vec!["2018-01-01".into(), "5".into()], vec!["2018-01-31".into(), "9\n".into()])),
            ..partition("201801", ComparisonResult::Different, 10, 9)
        };
        let report = VerifyReport {
            verdict: ComparisonResult::Different,
            by: "checksum",
            sample: Some(SampleReport { take: 1, classes: 7 }),
            remarks: Vec::new(),
            tables: vec![TableReport {
                table: "hits".into(),
                source: "web.hits".into(),
                target: "web.hits".into(),
                verdict: ComparisonResult::Different,
                remarks: Vec::new(),
                key_columns: vec!["d".into(), "id".into()],
                left_out: 12,
                error: Some("node a does not answer".into()),
                not_compared: vec!["201803".into()],
                partitions: vec![different, partition("201802", ComparisonResult::Equal, 1, 1)],
            }],
        };
        let expected = "hits: web.hits → web.hits
  201801: DIFFERENT: 10 rows on the source, 9 on the target
    d 2018-01-01, id 5: 1 row on the source, no row on the target
    d 2018-01-01, id 6: 1 row on the source, 2 rows on the target
    d 2018-01-01, id a\\nb: 1 row on both sides, with other contents
    and at least 3 more (--keys), about from d 2018-01-01, id 5 to d 2018-01-31, id 9\\n
  201802: 1 row, equal
  NOT COMPARED 201803: node a does not answer
2 partitions compared by checksum: 1 equal, 1 different; 1 could not be compared; 12 not in the sample of 1/7. Source and \
                    target DIFFER.";
        assert_eq!(report.to_string(), expected);
    }
}
