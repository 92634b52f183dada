//! The format, form by form; what is wrong is pointed at.

use std::collections::HashMap;

use midge_conf::{Loaded, Loader, NoFiles, Value, parse};
use proptest::prelude::*;

#[derive(Default)]
struct Fake {
    files: HashMap<&'static str, &'static str>,
    env: HashMap<&'static str, &'static str>,
}

impl Loader for Fake {
    fn include(&self, _: &str, name: &str) -> Result<Loaded, String> {
        let text = self.files.get(name).ok_or("no such file")?;
        Ok(Loaded { name: name.into(), text: (*text).into() })
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).map(|value| (*value).into())
    }
}

#[track_caller]
fn check(text: &str, json: &str) {
    match parse("t", text, &NoFiles) {
        Ok(document) => assert_eq!(document.root.to_json(), json, "for {text:?}"),
        Err(errors) => panic!("{text:?}: {errors}"),
    }
}

#[track_caller]
fn refuse(text: &str, begins: &str) {
    let error = parse("t", text, &NoFiles).expect_err(text).to_string();
    assert!(error.starts_with(begins), "for {text:?}: {error}");
}

#[test]
fn separators_and_ends() {
    check("a = 1\nb: 2; c 3, d\n4", r#"{"a":1,"b":2,"c":3,"d":4}"#);
    check("{a: 1, b: {c: 2}}", r#"{"a":1,"b":{"c":2}}"#);
    check("{\n \"a\": [1, 2,\n 3\n 4], 'b c': 'x' }\n", r#"{"a":[1,2,3,4],"b c":"x"}"#);
    check("a { b: 1 } \n c = { }", r#"{"a":{"b":1},"c":{}}"#);
    check("# one\na: 1 // two\n// three\nb: [ # four\n 1 # five\n]", r#"{"a":1,"b":[1]}"#);
    check("a: 1\r\nb: 2\r\n", r#"{"a":1,"b":2}"#);
    check("a: 1\na: 2", r#"{"a":2}"#);
}

#[test]
fn a_key_in_a_map_needs_a_value() {
    refuse("m {a: , b: 1}", "t:1:4: 'a' has no value");
    refuse("m {a: }", "t:1:4: 'a' has no value");
}

#[test]
fn half_a_comment_sign() {
    check("a: 1 / \nb: 2", r#"{"a":1,"b":2}"#);
    check("m {a: 1 / b: 2}", r#"{"m":{"a":1,"b":2}}"#);
    check("l: [1 / 2]", r#"{"l":[1,2]}"#);
    refuse("/ a\nb: 2", "t:1:1: expected a key, but got '/'");
}

#[test]
fn a_path_in_a_list_needs_quotes() {
    check("a: ['/tmp/x', \"/tmp/y\"]", r#"{"a":["/tmp/x","/tmp/y"]}"#);
    refuse("a: [/tmp/x]", "t:1:5: expected a value or ']' (a path in a list needs quotes), but got '/'");
}

#[test]
fn scalars() {
    check(
        "a: 127.0.0.1:4222, b: localhost:80, c: 5s, d: 1m, e: -1",
        "{\"a\":\"127.0.0.1:4222\",\"b\":\"localhost:80\",\"c\":\"5s\",\"d\":1000000,\"e\":-1}",
    );
    check(
        "a: 8k, b: 8KB, c: 1GiB, d: 22.5, e: -3.5",
        r#"{"a":8000,"b":8192,"c":1073741824,"d":22.5,"e":-3.5}"#,
    );
    check("a: TRUE, b: off, c: 'yes', d: \"no\"", r#"{"a":true,"b":false,"c":"yes","d":"no"}"#);
    check("a: \"x\\ty\\x41\\\"\\\\\", b: 'x\\n', c: x\\x42", r#"{"a":"x\tyA\"\\","b":"x\\n","c":"xB"}"#);
    check("a: nats://u:p@h:1/, b: foo.*.>", r#"{"a":"nats://u:p@h:1/","b":"foo.*.\u003e"}"#);
    check("a: 2016-05-04T18:53:41Z", r#"{"a":"2016-05-04T18:53:41Z"}"#);
    check("a (\nx { y\n)\nb: 1", r#"{"a":"\nx { y\n","b":1}"#);
    check("a: $2a$11$xyz.abc/D, b: 1ms, c: 3d", r#"{"a":"$2a$11$xyz.abc/D","b":"1ms","c":"3d"}"#);
}

#[test]
fn variables_come_from_open_blocks_and_the_environment() {
    check("x: 3\na { x: 4, b: $x, c { d: $x } }\ne: $x", r#"{"a":{"b":4,"c":{"d":4},"x":4},"e":3,"x":3}"#);
    let env = HashMap::from([("N", "42"), ("LIST", "[a, $N]"), ("LOOP", "$LOOP"), ("BAD", "[")]);
    let fake = Fake { env, ..Fake::default() };
    let document = parse("t", "a: $N, b: $LIST", &fake).unwrap();
    assert_eq!(document.root.to_json(), r#"{"a":42,"b":["a",42]}"#);
    let document = parse("t", "x: 1\na: $x\ny: 2", &fake).unwrap();
    let used: Vec<bool> = document.root.iter().map(|entry| entry.used).collect();
    assert_eq!(used, [true, false, false]);
    for (text, want) in [
        ("a: $LOOP", "reference cycle for 'LOOP'"),
        ("a: $BAD", "never closed"),
        ("a: $NO", "can not be found"),
    ] {
        let error = parse("t", text, &fake).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn includes_are_read_where_they_stand() {
    let files = HashMap::from([
        ("./a.conf", "b: 1\ninclude 'c.conf'"),
        ("c.conf", "c: [1]"),
        ("loop.conf", "include loop.conf"),
        ("bad.conf", "x: 1\ny: ["),
    ]);
    let fake = Fake { files, ..Fake::default() };
    let document = parse("t", "include ./a.conf\nm { include \"c.conf\"; d: $c }\ne: $b", &fake).unwrap();
    assert_eq!(document.root.to_json(), r#"{"b":1,"c":[1],"e":1,"m":{"c":[1],"d":[1]}}"#);
    for (text, want) in [
        ("include loop.conf", "loop.conf:1:9: files include each other without an end"),
        ("\ninclude no.conf", "t:2:9: cannot include 'no.conf': no such file"),
        ("include bad.conf", "bad.conf:2:4: this '[' is never closed"),
        ("include {", "t:1:9: expected the name"),
    ] {
        let error = parse("t", text, &fake).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
}

#[test]
fn what_is_wrong_is_pointed_at() {
    refuse("a: 1\n  b: \"x\\q\"", "t:2:8: unknown escape");
    refuse("a: {\n b: 1\n", "t:1:4: this '{' is never closed");
    refuse("{ a: 1", "t:1:1: this '{' is never closed");
    refuse("a: [1, 2", "t:1:4: this '[' is never closed");
    refuse("a: [1 2]", "t:1:7: expected ',' or ']' after the value, but got '2'");
    refuse("a: 'x", "t:1:4: this quote is never closed");
    refuse("= 3", "t:1:1: expected a key, but got '='");
    refuse("a:\n", "t:1:3: expected a value");
    refuse("a", "t:1:1: 'a' has no value");
    refuse("a { b }", "t:1:5: 'b' has no value");
    refuse("a: .5", "t:1:4: expected a value (numbers begin with a digit)");
    refuse("a: 1.x", "t:1:6: expected a digit after '.'");
    refuse("a: 99999999999999999999", "t:1:4: integer");
    refuse("a: 2016-05-04", "t:1:4: expected a time");
    refuse("a: (\nx", "t:1:4: this '(' is never closed");
    refuse("a: 1 b: 2", "t:1:6: expected a new line");
    refuse("a: $none", "t:1:4: variable reference for 'none' can not be found");
    refuse(&format!("a: {}", "[".repeat(100)), "t:1:68: blocks and lists are nested too deeply");
}

#[test]
fn one_error_does_not_hide_the_next() {
    let errors = parse("t", "a: .5\nb: 2\nc { d: \"\\q\"\n e: $f }\ng: ]", &NoFiles).unwrap_err();
    let places: Vec<(usize, usize)> = errors.0.iter().map(|error| (error.line, error.column)).collect();
    assert_eq!(places, [(1, 4), (3, 9), (4, 5), (5, 4)]);
    assert_eq!(
        errors.0[1].to_string(),
        "t:3:9: unknown escape; the known ones are \\xXX, \\t, \\n, \\r, \\\" and \\\\\n 3 | c { d: \"\\q\"\n   |         ^^"
    );
}

#[test]
fn values_know_where_they_stand() {
    let document = parse("t", "a: 1\nblock {\n  key: 'val'\n}", &NoFiles).unwrap();
    let Value::Map(block) = &document.root.get("block").unwrap().value else { panic!("no block") };
    let entry = block.iter().next().unwrap();
    assert_eq!(document.sources.position(entry.span), (3, 3));
    assert_eq!(document.sources.position(entry.node.span), (3, 8));
}

proptest! {
    #[test]
    fn no_text_panics_or_hangs(text in "[a$\\[\\](){}=:,;#/\\\\'\"\\- \n\r\t0-9.kMx]{0,60}") {
        let _ = parse("t", &text, &NoFiles).map_err(|errors| errors.to_string());
    }

    #[test]
    fn any_text_survives_quoting(text in "[^\"\\\\]{0,40}") {
        let document = parse("t", &format!("a: \"{text}\""), &NoFiles).unwrap();
        prop_assert_eq!(&document.root.get("a").unwrap().value, &Value::Text(text));
    }
}
