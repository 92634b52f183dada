//! What somebody wants to know, whichever way it was asked.

use std::collections::BTreeMap;

use serde_json::Value;

/// Entries of a list when the query does not say how many.
const DEFAULT_LIMIT: usize = 1024;

/// The parameters of a query by nats-server's names for them in URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(pub(crate) BTreeMap<String, String>);

/// Why a query cannot be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadQuery(pub(crate) String);

impl Query {
    /// The parameters that a request over NATS has in its JSON, which calls some of them otherwise
    /// (`server/monitor.go`: `ConnzOptions`, `SubszOptions`, …).
    pub(crate) fn from_json(options: &serde_json::Map<String, Value>) -> Result<Self, BadQuery> {
        let mut query = Self::default();
        for (key, value) in options {
            let key = key.to_lowercase();
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                Value::Object(_) => return Err(BadQuery(format!("'{key}' cannot be an object"))),
                other => other.to_string(),
            };
            let (key, text) = match (key.as_str(), text.as_str()) {
                ("subscriptions", _) if query.0.contains_key("subs") => continue,
                ("subscriptions", _) => ("subs", text),
                ("subscriptions_detail", "true") => ("subs", "detail".to_owned()),
                ("subscriptions_detail", _) => continue,
                ("account", _) => ("acc", text),
                ("include_unused", _) => ("unused", text),
                ("state", "0") => ("state", "open".to_owned()),
                ("state", "1") => ("state", "closed".to_owned()),
                ("state", "2") => ("state", "any".to_owned()),
                (other, _) => (other, text),
            };
            query.0.insert(key.to_owned(), text);
        }
        Ok(query)
    }

    /// A text; `None` when it is not there or empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A number; zero when it is not there or below.
    pub(super) fn number(&self, key: &str) -> Result<usize, BadQuery> {
        let Some(text) = self.text(key) else { return Ok(0) };
        let number: i64 = text
            .parse()
            .map_err(|_| BadQuery(format!("Error decoding int for '{key}': '{text}' is no number")))?;
        Ok(usize::try_from(number).unwrap_or(0))
    }

    /// A truth value; false when it is not there.
    pub(super) fn truth(&self, key: &str) -> Result<bool, BadQuery> {
        match self.text(key) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(text) => Err(BadQuery(format!(
                "Error decoding boolean for '{key}': '{text}' is neither true nor false"
            ))),
        }
    }

    /// Offset and limit of a list.
    pub(super) fn window(&self) -> Result<(usize, usize), BadQuery> {
        let limit = match self.number("limit")? {
            0 => DEFAULT_LIMIT,
            limit => limit,
        };
        Ok((self.number("offset")?, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query(
            text.split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }

    #[test]
    fn queries_are_read_as_the_original_does() {
        assert_eq!(query("limit=5&offset=2").window(), Ok((2, 5)));
        assert_eq!(query("limit=-1&offset=").window(), Ok((0, DEFAULT_LIMIT)));
        assert!(query("limit=x").window().is_err());
        assert_eq!(query("subs=1").truth("subs"), Ok(true));
        assert!(query("subs=detail").truth("subs").is_err());
    }

    #[test]
    fn json_says_the_same_by_other_names() {
        let read = |text: &str| {
            let Value::Object(options) = serde_json::from_str(text).unwrap() else { panic!("no object") };
            Query::from_json(&options)
        };
        let asked = read(r#"{"subscriptions":true,"limit":3,"state":1,"account":"A","sort":null}"#);
        assert_eq!(asked, Ok(query("subs=true&limit=3&state=closed&acc=A")));
        assert_eq!(read(r#"{"subscriptions_detail":true,"subscriptions":true}"#), Ok(query("subs=detail")));
        assert!(read(r#"{"limit":{}}"#).is_err());
    }
}
