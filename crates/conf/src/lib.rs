//! The configuration format of nats-server, not its meaning.
//!
//! **What it is.** [`parse`] turns a text into a tree in which every key and value knows where it stood, so that
//! whoever finds fault with a value later can point at it.
//!
//! **What it will never do.** Know the name of an option; read a file or the environment by itself (both come in
//! by [`Loader`]); stop at the first error.
//!
//! **The main types.** [`Document`] is what was read, [`Node`] a value with its place, [`Errors`] everything that
//! is wrong, printed with file, line, column and a caret.
//!
//! ```
//! use midge_conf::{NoFiles, Value, parse};
//!
//! let document = parse("ex.conf", "port: 4222, limit = 8KB\nuser { name: $LOGIN, LOGIN: x }", &NoFiles);
//! assert!(document.unwrap_err().to_string().starts_with("ex.conf:2:14: variable reference for 'LOGIN'"));
//!
//! let document = parse("ex.conf", "port: 4222, limit = 8KB", &NoFiles).unwrap();
//! assert_eq!(document.root.get("limit").unwrap().value, Value::Int(8192));
//! ```
//!
//! **Why it is shaped this way.** The rules are those of nats-server's `conf/lex.go` and `conf/parse.go`, which
//! are a state machine over characters: what ends a bare word depends on where it stands. One cursor with one
//! method for each of those states is the shortest way to say the same.

mod error;
mod load;
mod parser;
mod scalar;
mod tree;

pub use error::{Diagnostic, Errors, Sources, Span};
pub use load::{Loaded, Loader, NoFiles};
pub use parser::parse;
pub use tree::{Document, Entry, Map, Node, Value};
