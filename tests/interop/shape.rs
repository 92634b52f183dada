//! Names and types in JSON documents, compared with nats-server's.

use std::collections::BTreeSet;

use serde_json::Value;

/// What nats-server has and midged lacks, each with its reason: what does not exist here.
const LACKING: [(&str, &str); 9] = [
    (".server.feature_flags", "feature flags"),
    (".server.git", "how it was built"),
    (".git_commit", "how it was built"),
    (".feature_flags", "feature flags"),
    (".disk_io_wait_stats", "disks"),
    (".account_detail.imports", "imports: services are subscriptions of the account itself"),
    (".account_detail.exports", "exports"),
    (".data.imports", "imports"),
    (".gomemlimit", "Go's memory limit"),
];

/// All paths, with the type of each value. What one entry of a list has, the list has: their order is nobody's promise.
fn shape(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                shape(value, &format!("{path}.{key}"), found);
            }
            "object"
        }
        Value::Array(list) => {
            for entry in list {
                shape(entry, &format!("{path}[]"), found);
            }
            "list"
        }
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    found.insert(format!("{path}: {kind}"));
}

/// Every name that nats-server has stands there with the same type, and no other.
#[track_caller]
pub(crate) fn same_shape(what: &str, ours: &Value, theirs: &Value) {
    let [ours_has, theirs_has] = [ours, theirs].map(|value| {
        let mut found = BTreeSet::new();
        shape(value, "", &mut found);
        found.retain(|key| !LACKING.iter().any(|(lacking, _)| key.contains(lacking)));
        found
    });
    let missing: Vec<_> = theirs_has.difference(&ours_has).collect();
    let extra: Vec<_> = ours_has.difference(&theirs_has).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{what}: lacks {missing:?}, has {extra:?}\n{ours:#}\n{theirs:#}"
    );
}
