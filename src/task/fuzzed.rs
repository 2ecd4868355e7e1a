//! Properties of the readers of files, for fuzzing; see [`crate::fuzzed`].

use std::collections::BTreeMap;

use super::{
    ConfigText, GivenSecrets, KeeperConfig, Rules, TableJob, TablePartitions, Task, kept_elements, merged_outline,
    outline_of, replacing,
};

/// The separator between two files of a configuration.
const BETWEEN: &str = "\n%%%\n";

/// The value of environment variables.
const VALUE: &str = "<node><host>h</host></node>";

/// Checks a task file. Two reads give the same task, and the parts that other commands extract are parts of it.
pub(crate) fn task_file(input: &[u8]) {
    let text = &String::from_utf8_lossy(input);
    let secrets = secrets(text);
    let kept = kept_elements(text);
    assert!(kept.iter().all(|(_, written)| text.contains(written.as_str())), "{text:?}");
    match Task::parse(text, &secrets) {
        Ok(parsed) => {
            assert_eq!(Task::parse(text, &secrets).as_ref(), Ok(&parsed), "{text:?}");
            parsed.warnings.iter().for_each(|warning| assert!(!warning.in_file("f").is_empty()));
            let task = &parsed.task;
            assert_eq!(super::differences(&task.plan_inputs(), &task.plan_inputs()), Vec::<String>::new());
            let wanted = |partitions: Vec<String>| -> Vec<TablePartitions> {
                let of_job =
                    |job: &TableJob| TablePartitions { table: job.name.clone(), partitions: partitions.clone() };
                task.tables.iter().map(of_job).collect()
            };
            for partitions in [vec![], vec!["201801".to_owned()]] {
                let repaired = replacing(text, &wanted(partitions));
                if let Err(faults) = Task::parse(&repaired, &secrets) {
                    panic!("{text:?} became {repaired:?}: {faults}");
                }
            }
        }
        Err(faults) => assert!(!faults.to_string().is_empty() && !faults.list().is_empty(), "{text:?}"),
    }
}

/// Checks a configuration of one file or several.
pub(crate) fn configuration(input: &[u8]) {
    let text = &String::from_utf8_lossy(input);
    let named = |(index, text): (usize, &str)| {
        let path = if index == 0 { "config".to_owned() } else { format!("config.d/{index}") };
        ConfigText { path, text: text.to_owned() }
    };
    let texts: Vec<ConfigText> = text.split(BETWEEN).enumerate().map(named).collect();
    let secrets = secrets(text.rsplit(BETWEEN).next().unwrap_or_default());
    match KeeperConfig::of(&texts, &secrets) {
        Ok((keeper, warnings)) => {
            assert!(!keeper.hosts.is_empty(), "{text:?}");
            assert_eq!(KeeperConfig::of(&texts, &secrets), Ok((keeper, warnings)), "{text:?}");
        }
        Err(faults) => assert!(!faults.to_string().is_empty(), "{text:?}"),
    }
    for rules in [Rules::Modern, Rules::Old] {
        if let Err(faults) = merged_outline(&texts, rules, &secrets) {
            assert!(!faults.to_string().is_empty(), "{text:?}");
        }
    }
    let _ = outline_of(text);
}

/// Returns every name that the corpus refers to.
fn secrets(included: &str) -> GivenSecrets {
    let env = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    GivenSecrets {
        env: [("A", "a"), ("NODE", VALUE)].map(env).into(),
        files: BTreeMap::from(["/etc/metrika.xml", "a", "b.yaml"].map(|path| (path.to_owned(), included.to_owned()))),
    }
}
