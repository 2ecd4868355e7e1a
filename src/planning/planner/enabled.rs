//! The partitions that `<enabled_partitions>` names.

use std::collections::HashMap;

use super::super::errors::Problem;
use super::{Planner, PreviousPasses};
use crate::model::few;
use crate::plan::{Found, Remark, parse_partition};

impl Planner<'_> {
    /// Returns the found partitions that the task names, in the order of the task.
    ///
    /// # Errors
    /// When the task names a partition that the source does not have and no earlier pass has copied, and does not allow missing
    /// partitions.
    pub(super) fn enabled(
        &self,
        found: Vec<Found>,
        previous: Option<&PreviousPasses>,
        remarks: &mut Vec<Remark>,
    ) -> Result<Vec<Found>, Problem> {
        let Some(enabled) = &self.survey.enabled else { return Ok(found) };
        let names: Vec<String> = found.iter().map(|partition| partition.name.clone()).collect();
        let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, name) in names.iter().enumerate() {
            by_name.entry(name).or_default().push(at);
        }
        let (mut wanted, mut missing) = (Vec::new(), Vec::new());
        for texts in enabled {
            let name = self.name_of_written(texts);
            // Two partitions have the same name where clocks go back. The task means both.
            let meant = by_name.get(name.as_str()).cloned().unwrap_or_else(|| {
                let is_meant = |at: &usize| {
                    found[*at]
                        .as_ref()
                        .is_some_and(|partition| self.is_meant(texts, &partition.name, &partition.value.0))
                };
                (0..names.len()).filter(is_meant).collect()
            });
            let is_earlier = || {
                previous.iter().flat_map(|passes| &passes.earlier.partitions).any(|copied| {
                    copied.partition.name == name
                        || self.is_meant(texts, &copied.partition.name, &copied.partition.value.0)
                })
            };
            if meant.is_empty() && !is_earlier() {
                missing.push(name);
            }
            wanted.extend(meant.into_iter().filter_map(|at| found[at].take()));
        }
        if missing.is_empty() {
            return Ok(wanted);
        }
        let problem = missing_partitions(&missing, &names);
        if !self.job.skip_missing_partitions {
            let advice = "Name partitions that exist, or write <enabled_partitions missing=\"skip\">";
            let problem = Problem::task(problem).in_table(&self.job.name).at_element("enabled_partitions");
            return Err(problem.with_todo(advice));
        }
        remarks.push(Remark::new(format!("enabled_partitions: {problem}")));
        Ok(wanted)
    }

    /// Returns whether the task names a partition that was copied.
    pub(crate) fn is_enabled(&self, name: &str, value: &[String]) -> bool {
        let Some(enabled) = &self.survey.enabled else { return true };
        enabled.iter().any(|texts| self.name_of_written(texts) == name || self.is_meant(texts, name, value))
    }

    /// Returns the name of the partition that the task writes with these texts.
    fn name_of_written(&self, texts: &[String]) -> String {
        let shown = self.survey.key.iter().zip(texts).map(|(element, text)| element.shown_of_written(text));
        self.name(&shown.collect::<Vec<_>>())
    }

    /// Returns whether the task means this partition with these texts.
    fn is_meant(&self, written: &[String], name: &str, value: &[String]) -> bool {
        let key = &self.survey.key;
        let Ok(shown) = parse_partition(name, key) else { return false };
        let elements = key.iter().zip(written).zip(shown.iter().zip(value));
        written.len() == key.len()
            && elements.into_iter().all(|((element, written), (shown, value))| element.is_meant(written, shown, value))
    }
}

/// Returns the message that partitions are missing, with some existing ones.
fn missing_partitions(missing: &[String], existing: &[String]) -> String {
    let listed = match existing {
        [] => "the source has none".to_owned(),
        existing => format!("the source has {}", few(existing)),
    };
    let are = if missing.len() == 1 { "is no partition" } else { "are no partitions" };
    format!("there {are} {}; {listed}", few(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_missing_partitions_lists_existing_ones() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            missing_partitions(&names(&["'07'"]), &names(&["'007'", "'7'"])),
            "there is no partition '07'; the source has '007', '7'"
        );
        assert_eq!(missing_partitions(&names(&["1", "2"]), &[]), "there are no partitions 1, 2; the source has none");
    }
}
