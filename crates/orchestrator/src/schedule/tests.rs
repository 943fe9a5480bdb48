//! Which moments are due, also where the clock is put forward or back.

use std::str::FromStr;

use chrono_tz::Tz;
use croner::Cron;

use super::*;

fn schedule(cron: &str, zone: &str, catch_up: CatchUp) -> Schedule {
    Schedule {
        text: cron.to_owned(),
        cron: Cron::from_str(cron).unwrap(),
        time_zone: zone.parse::<Tz>().unwrap(),
        catch_up,
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn due(schedule: &Schedule, passed: &str, now: &str) -> Vec<(String, u64)> {
    let Some((causes, _)) = schedule.due(at(passed), at(now)) else {
        return Vec::new();
    };
    let moments = causes.into_iter().map(|cause| match cause {
        Cause::Schedule { due_at, missed } => (due_at.format("%d %H:%M").to_string(), missed),
        other => panic!("{other:?}"),
    });
    moments.collect()
}

#[test]
fn a_moment_is_due_once() {
    let hourly = schedule("0 * * * *", "UTC", CatchUp::Last);
    let expect = |passed, now, expected: &[(&str, u64)]| {
        let expected: Vec<_> = expected
            .iter()
            .map(|(t, n)| ((*t).to_owned(), *n))
            .collect();
        assert_eq!(due(&hourly, passed, now), expected, "{passed} {now}");
    };
    expect("2026-01-01T10:30:00Z", "2026-01-01T10:59:59Z", &[]);
    expect(
        "2026-01-01T10:30:00Z",
        "2026-01-01T11:00:00Z",
        &[("01 11:00", 0)],
    );
    expect("2026-01-01T11:00:00Z", "2026-01-01T11:00:01Z", &[]);
    // The clock was put back.
    expect("2026-01-01T11:00:00Z", "2026-01-01T10:00:00Z", &[]);
}

#[test]
fn moments_that_passed_are_caught_up_on_as_asked() {
    let of = |catch_up| {
        let hourly = schedule("0 * * * *", "UTC", catch_up);
        due(&hourly, "2026-01-01T10:30:00Z", "2026-01-01T13:30:00Z")
    };
    let one = |time: &str, missed| (format!("01 {time}"), missed);
    assert_eq!(of(CatchUp::Last), [one("13:00", 2)]);
    assert_eq!(
        of(CatchUp::All),
        [one("11:00", 0), one("12:00", 0), one("13:00", 0)]
    );
    assert_eq!(of(CatchUp::Skip), []);
    let hourly = schedule("0 * * * *", "UTC", CatchUp::Skip);
    let punctual = due(&hourly, "2026-01-01T10:30:00Z", "2026-01-01T13:00:30Z");
    assert_eq!(punctual, [one("13:00", 0)]);
    // What is passed by is dealt with too.
    let (none, to) = hourly
        .due(at("2026-01-01T10:30:00Z"), at("2026-01-01T13:30:00Z"))
        .unwrap();
    assert!(none.is_empty());
    assert_eq!(to, at("2026-01-01T13:00:00Z"));
}

#[test]
fn no_more_than_a_hundred_are_caught_up_on() {
    let often = schedule("* * * * *", "UTC", CatchUp::All);
    let found = due(&often, "2026-01-01T00:00:00Z", "2026-01-01T10:00:00Z");
    assert_eq!(found.len(), 100);
    assert_eq!(found[99].0, "01 10:00");
}

#[test]
fn hours_are_those_of_the_clock_where_it_is() {
    let nightly = schedule("30 2 * * *", "Europe/Berlin", CatchUp::All);
    // Winter, an hour before UTC; the clock is put forward on the 29th, from 2 to 3, and back on 25 October.
    let march = due(&nightly, "2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z");
    let times: Vec<&str> = march.iter().map(|(time, _)| time.as_str()).collect();
    assert_eq!(times.len(), 4, "{times:?}");
    assert_eq!((times[0], times[3]), ("28 01:30", "31 00:30"));
    let october = due(&nightly, "2026-10-23T12:00:00Z", "2026-10-27T12:00:00Z");
    let times: Vec<&str> = october.iter().map(|(time, _)| time.as_str()).collect();
    assert_eq!(times.len(), 4, "{times:?}");
    assert_eq!((times[0], times[3]), ("24 00:30", "27 01:30"));
}

/// The times of a pattern in Berlin over the night in which the clock is put forward, from 2 to 3, and that in
/// which it is put back, from 3 to 2.
fn over_both_nights(cron: &str) -> [Vec<String>; 2] {
    let schedule = schedule(cron, "Europe/Berlin", CatchUp::All);
    let night = |passed, now| {
        let due = due(&schedule, passed, now).into_iter();
        due.map(|(time, _)| time).collect()
    };
    [
        night("2026-03-28T22:30:00Z", "2026-03-29T22:00:00Z"),
        night("2026-10-24T21:30:00Z", "2026-10-25T22:30:00Z"),
    ]
}

#[test]
fn each_of_several_times_of_a_day_comes_once_where_the_clock_is_put_forward_or_back() {
    let [forward, back] = over_both_nights("0 2,14 * * *");
    assert_eq!(forward, ["29 01:00", "29 12:00"]);
    assert_eq!(back, ["25 00:00", "25 13:00"]);
    // What is left out comes as soon as the clock is behind it, and once.
    let [forward, back] = over_both_nights("15,45 1-3 * * *");
    assert_eq!(
        forward,
        ["29 00:15", "29 00:45", "29 01:00", "29 01:15", "29 01:45"]
    );
    assert_eq!(
        back,
        [
            "24 23:15", "24 23:45", "25 00:15", "25 00:45", "25 02:15", "25 02:45"
        ]
    );
    let [forward, _] = over_both_nights("20,40 30 2 * * *");
    assert_eq!(forward, ["29 01:00"]);
}

#[test]
fn a_restart_while_the_clock_shows_times_again_repeats_none() {
    let nightly = schedule("30 2,4 * * *", "Europe/Berlin", CatchUp::All);
    let next = nightly.next(at("2026-10-25T01:10:00Z"));
    assert_eq!(next, Some(at("2026-10-25T03:30:00Z")));
}

#[test]
fn what_comes_every_hour_or_minute_goes_on_while_the_clock_shows_times_again() {
    let [forward, back] = over_both_nights("0 */2 * * *");
    assert_eq!(forward.first().map(String::as_str), Some("28 23:00"));
    assert_eq!(forward.get(1).map(String::as_str), Some("29 02:00"));
    assert!(back.contains(&"25 00:00".to_owned()) && back.contains(&"25 01:00".to_owned()));
}
