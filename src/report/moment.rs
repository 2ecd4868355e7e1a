//! The format of times in reports.

use std::fmt;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::macros::format_description;

/// A time in milliseconds since 1970. It displays in RFC 3339, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let text = at.map_err(|_| fmt::Error)?.format(form).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
