//! Negative zero in a partition key. Servers since 22 may store a part that holds only -0 as a part of zeros. They read the values as 0,
//! but a filter matches them only by -0.

use super::super::errors::Problem;
use super::Planner;
use crate::client::Error;
use crate::plan::Found;
use crate::sql::{key_elements, unquoted_elements};

/// The values of 0 and of -0 as Float32 and as Float64, by their bits.
const ZERO: &str = "0";
const NEGATIVE: [&str; 2] = ["2147483648", "9223372036854775808"];
/// The first release that may store -0 as 0.
const STORES_AS_ZERO: (u32, u32) = (22, 1);

impl Planner<'_> {
    /// Refuses a copy of -0 where one of the servers may read it back as 0.
    pub(super) async fn refuse_negative_zero(&self, found: &[Found]) -> Result<(), Problem> {
        let holds = |values: &[&str]| {
            let is_one = |partition: &Found| {
                let elements = self.survey.key.iter().zip(&partition.value.0);
                elements.into_iter().any(|(element, text)| element.is_float() && values.contains(&text.as_str()))
            };
            found.iter().any(is_one)
        };
        if !holds(&[ZERO, NEGATIVE[0], NEGATIVE[1]]) {
            return Ok(());
        }
        let refused = |node: &str, version: &str| {
            let key: Vec<&str> = self.survey.key.iter().map(|element| element.expression.as_str()).collect();
            self.servers(&format!(
                "PARTITION BY {} has the value -0, which ClickHouse {version} on {node} may read back as 0: rows would be lost. \
                 Replace -0 by 0 at the source",
                key.join(", ")
            ))
        };
        for node in self.survey.sources.iter().chain(&self.survey.targets).flatten() {
            let facts = self.pool.facts(node).await.map_err(|error| self.server_error(&error))?;
            if facts.release() >= STORES_AS_ZERO && holds(&NEGATIVE) {
                return Err(refused(&node.address(), &facts.version));
            }
        }
        for node in self.survey.sources.iter().flatten() {
            let facts = self.pool.facts(node).await.map_err(|error| self.server_error(&error))?;
            let stored = facts.release() >= STORES_AS_ZERO
                && self.has_negative_part(node).await.map_err(|e| self.server_error(&e))?;
            if stored {
                return Err(refused(&node.address(), &facts.version));
            }
        }
        Ok(())
    }

    /// Returns whether parts of the source are named by a -0 of a float that the target's key has too.
    async fn has_negative_part(&self, node: &crate::model::Node) -> Result<bool, Error> {
        let source = self.source_on(node).await?;
        let Some(key) = source.engine.partition_key().filter(|_| source.engine.is_merge_tree()) else {
            return Ok(false);
        };
        let own = key_elements(&key);
        let is_float = |expression: &String| {
            self.survey.key.iter().any(|element| element.is_float() && element.expression == *expression)
        };
        let is_negative = |name: &str| match own.len() {
            1 => is_float(&own[0]) && name == "-0",
            _ => unquoted_elements(name).is_ok_and(|texts| {
                own.iter().zip(&texts).any(|(expression, text)| is_float(expression) && text == "-0")
            }),
        };
        let parts = self.pool.client.parts(node, &source.name).await?;
        Ok(parts.iter().any(|part| is_negative(&part.name)))
    }
}
