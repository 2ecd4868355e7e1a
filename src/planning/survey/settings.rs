//! The check of settings of accounts and of the task that would change the result of a copy. Reads only.

use std::collections::BTreeSet;

use super::super::errors::Problem;
use crate::model::{Cluster, Node};
use crate::nodes::pool::NodePool;
use crate::sql::required_settings::{Correction, Matters, required_setting};
use crate::task::Task;

/// Returns a fault for each setting of an account that has a wrong value and cannot be changed, and for each setting of the task with a
/// wrong value. Checks only nodes that answered.
pub(super) fn wrong_settings(pool: &NodePool, task: &Task) -> Vec<Problem> {
    let mut faults = of_task(task);
    let sources: BTreeSet<usize> = task.tables.iter().map(|job| job.source_cluster).collect();
    let targets: BTreeSet<usize> = task.tables.iter().map(|job| job.target_cluster).collect();
    for (clusters, writes) in [(sources, false), (targets, true)] {
        for (_, node) in clusters.into_iter().flat_map(|at| Cluster::nodes(&task.clusters[at])) {
            let Some(facts) = pool.known_facts(node) else { continue };
            for correction in facts.corrections() {
                if let Some(cause) = refusal(node, &correction, writes) {
                    let fault = Problem::servers(cause).on_node(node);
                    if !faults.contains(&fault) {
                        faults.push(fault);
                    }
                }
            }
        }
    }
    faults
}

/// Returns why an account is refused, or `None` where the setting can be changed or does not matter.
fn refusal(node: &Node, correction: &Correction, writes: bool) -> Option<String> {
    let matters = match correction.matters {
        Matters::Everywhere => true,
        Matters::Writing => writes,
        Matters::Passing => false,
    };
    let Correction { name, found, needed, reason, allowed, .. } = correction;
    (matters && !allowed).then(|| {
        format!(
            "the profile of account {} has {name} = {}, which the account may not change: {reason}. Give it a profile with \
             {name} = {}, or the right to set it",
            node.user,
            shown(found),
            shown(needed)
        )
    })
}

/// Returns the faults of settings of the task that must have another value.
fn of_task(task: &Task) -> Vec<Problem> {
    let sections = [
        ("settings", &task.settings.common),
        ("settings_pull", &task.settings.pull),
        ("settings_push", &task.settings.push),
    ];
    let mut faults = Vec::new();
    for (section, settings) in sections {
        for (name, value) in settings {
            let wrong = required_setting(name).filter(|setting| setting.matters != Matters::Passing);
            if let Some(setting) = wrong.filter(|setting| !setting.is_met_by(value)) {
                let problem = Problem::task(format!("it is {}, and {}", shown(value), setting.reason));
                faults.push(problem.at_element(&format!("{section}/{name}")).with_todo("Leave it out"));
            }
        }
    }
    faults
}

fn shown(value: &str) -> String {
    if value.is_empty() { "''".to_owned() } else { value.escape_debug().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_refused_only_for_a_needed_setting_that_it_may_not_change() {
        let node = Node { user: "u".into(), ..Node::new("h") };
        let correction = |matters, allowed| Correction {
            name: "limit",
            found: "7".into(),
            needed: "0",
            matters,
            reason: "each result would be cut after so many rows",
            allowed,
        };
        let refused = |matters, allowed, writes| refusal(&node, &correction(matters, allowed), writes);
        let line = refused(Matters::Everywhere, false, false).unwrap();
        assert!(line.contains("the profile of account u has limit = 7") && line.contains("limit = 0"), "{line}");
        assert_eq!(refused(Matters::Everywhere, true, true), None);
        assert_eq!(refused(Matters::Writing, false, false), None);
        assert!(refused(Matters::Writing, false, true).is_some());
        assert_eq!(refused(Matters::Passing, false, true), None);
    }
}
