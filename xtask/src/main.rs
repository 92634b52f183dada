//! `cargo xtask <verb>`: the project's automation. Verbs that check never write; `fix` and `docs` do.

mod bench;
mod docs;
mod fix;
mod fuzz;
mod interop;
mod peers;
mod proto;
mod sh;
mod sim;
mod test;
mod tidy;
mod verify;

use std::process::ExitCode;

const USAGE: &str = "cargo xtask <verb>

  verify                        all that must hold: format, tidy, clippy, tests, interop, docs (what CI runs)
  fix                           format, and make generated documentation anew
  test [layer]                  tests of one layer: unit, doc, model, interop, or all of them
  interop [--suite async-nats]  stock clients and servers against midged, or a client's own test suite
          [--sessions N] [--seed N] [--against VERSION]    only the differential tester
  sim [--seed N] [--count N]    meshes in a time of their own, with what must hold in each; one seed, or so many
  fuzz [target] [--seconds N]   coverage-guided fuzzing of the parsers; without a target, of each
  bench [--quick] [--only W]    server CPU per message against a real nats-server; writes docs/bench/
  bench --links                 what links cost, beside TCP with TLS; writes docs/bench/links.md
  bench --icount [--record]     instructions per message of the core, compared with what is recorded in docs/bench/
  docs [--check]                tables of options in docs/
  proto [--check]               the messages in proto/ as Rust
  tidy                          house rules: arrows between crates, sizes, words that must not stand here
  peers                         find or fetch the real servers and clients, and print their versions";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = arguments.split_first().map_or(("", &[][..]), |(verb, rest)| (verb.as_str(), rest));
    let done = match verb {
        "verify" => verify::run(),
        "fix" => fix::run(),
        "test" => test::run(rest),
        "interop" => interop::run(rest),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest),
        "docs" => docs::run(rest.iter().any(|argument| argument == "--check")),
        "tidy" => tidy::run(),
        "sim" => sim::run(rest),
        "proto" => proto::run(rest),
        "peers" => peers::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {verb}: {why}");
            ExitCode::FAILURE
        }
    }
}
