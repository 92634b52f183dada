//! What is wrong with a value, and where inside it.

use midge_conf::Span;

/// Everything that is wrong with one option's value; never empty when it is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults(pub Vec<Fault>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, if it is a part of the value.
    pub at: Option<Span>,
    /// What, and what to do.
    pub why: String,
}

impl From<String> for Faults {
    fn from(why: String) -> Self {
        Self(vec![Fault { at: None, why }])
    }
}

impl Faults {
    pub(super) fn add(&mut self, at: Span, why: impl Into<String>) {
        self.0.push(Fault { at: Some(at), why: why.into() });
    }

    /// Notes an error of the part at that place; the value otherwise.
    pub(super) fn note<T>(&mut self, at: Span, result: Result<T, impl Into<Self>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(faults) => {
                let faults: Self = faults.into();
                self.0.extend(faults.0.into_iter().map(|fault| Fault { at: fault.at.or(Some(at)), ..fault }));
                None
            }
        }
    }

    /// The same, with the option's name in front of each.
    pub(super) fn named(self, key: &str) -> Self {
        Self(
            self.0.into_iter().map(|fault| Fault { why: format!("{key}: {}", fault.why), ..fault }).collect(),
        )
    }

    /// The value, if nothing was wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|fault| fault.why.as_str()).collect();
        f.write_str(&texts.join("; "))
    }
}
