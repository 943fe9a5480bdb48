use super::*;

#[test]
fn the_place_is_that_of_the_first_call_in_a_file_of_the_application() {
    let stack = "    at call (internal:context.js:13:5)\n    at map (native)\n    at sum (functions/a (1).js:3:9)\n    at <anonymous> (functions/b.js:7:1)\n";
    let failure = Failure::of(FailureKind::Thrown, "Error", "no").with_stack(stack);
    assert_eq!(failure.place, Some(("functions/a (1).js".to_owned(), 3)));
    assert_eq!(
        failure.stack.as_deref(),
        Some("    at sum (functions/a (1).js:3:9)\n    at <anonymous> (functions/b.js:7:1)")
    );
}

#[test]
fn a_syntax_error_has_its_place_without_a_call() {
    assert_eq!(
        place("    at functions/a.js:3:5"),
        Some(("functions/a.js".to_owned(), 3))
    );
}

#[test]
fn a_line_without_a_place_has_none() {
    assert_eq!(place("    at eval"), None);
    assert_eq!(place("whatever"), None);
}

#[test]
fn what_is_said_in_front_of_the_calls_is_no_part_of_them() {
    let stack = "Error: no\nreason (x.js:1:1)\n    at sum (functions/a.js:3:9)";
    let failure = Failure::of(FailureKind::Thrown, "Error", "no").with_stack(stack);
    assert_eq!(failure.place, Some(("functions/a.js".to_owned(), 3)));
    assert_eq!(
        failure.stack.as_deref(),
        Some("    at sum (functions/a.js:3:9)")
    );
    assert_eq!(user_stack("whatever"), "whatever");
}
