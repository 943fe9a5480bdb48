use super::*;

fn rules(patterns: &[&str]) -> OutboundRules {
    let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
    OutboundRules::parse(&patterns).unwrap()
}

fn is_open(rules: &OutboundRules, url: &str) -> bool {
    rules.check(&Url::parse(url).unwrap()).is_ok()
}

#[test]
fn without_a_list_all_but_what_is_dangerous_is_allowed() {
    let rules = OutboundRules::default();
    for url in [
        "http://example.com/",
        "https://10.1.2.3/",
        "http://192.168.0.1:8080/",
        "http://[2001:db8::1]/",
    ] {
        assert!(is_open(&rules, url), "{url}");
    }
    for url in [
        "http://127.0.0.1/",
        "http://127.9.9.9:99/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.1.1/",
        "http://[fe80::1]/",
        "http://[febf::1]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[::127.0.0.1]/",
        "http://metadata.google.internal/",
        "http://METADATA.google.internal./",
        "ftp://example.com/",
        "file:///etc/passwd",
    ] {
        assert!(!is_open(&rules, url), "{url}");
    }
}

#[test]
fn an_empty_list_allows_nothing() {
    let none = rules(&[]);
    for url in [
        "http://example.com/",
        "https://10.1.2.3/",
        "http://[2001:db8::1]/",
        "http://127.0.0.1/",
    ] {
        assert!(!is_open(&none, url), "{url}");
    }
    let address = "10.0.0.1".parse().unwrap();
    assert!(none.permits("a.example", address).is_err());
}

#[test]
fn a_name_is_allowed_by_itself_by_what_it_is_below_and_by_its_port() {
    let rules = rules(&["api.example.com", "*.example.org", "Münster.example:8443"]);
    for url in [
        "https://api.example.com/",
        "https://API.example.com.:99/",
        "https://a.b.example.org/",
        "https://xn--mnster-3ya.example:8443/",
    ] {
        assert!(is_open(&rules, url), "{url}");
    }
    for url in [
        "https://example.com/",
        "https://xapi.example.com/",
        "https://example.org/",
        "https://badexample.org/",
        "https://xn--mnster-3ya.example/",
        "https://93.184.216.34/",
    ] {
        assert!(!is_open(&rules, url), "{url}");
    }
}

#[test]
fn what_a_name_resolves_to_is_held_to_the_rules() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let open = OutboundRules::default();
    assert!(open.permits("a.example", address("10.0.0.1")).is_ok());
    for refused in [
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:169.254.169.254",
    ] {
        assert!(
            open.permits("a.example", address(refused)).is_err(),
            "{refused}"
        );
    }
    // A name that is allowed does not make what it leads to so.
    let named = rules(&["a.example"]);
    assert!(named.permits("a.example", address("10.0.0.1")).is_ok());
    assert!(
        named
            .permits("a.example", address("169.254.169.254"))
            .is_err()
    );
    assert!(named.permits("a.example", address("127.0.0.1")).is_err());
    // A name that no pattern has is allowed where all that it leads to is.
    let network = rules(&["10.0.0.0/8"]);
    assert!(is_open(&network, "http://any.example/"));
    assert!(network.permits("any.example", address("10.0.0.1")).is_ok());
    assert!(network.permits("any.example", address("11.0.0.1")).is_err());
    // A port is not forgotten because a network lets other names in.
    let both = rules(&["10.0.0.0/8", "a.example:443"]);
    assert!(!is_open(&both, "http://a.example/"));
    assert!(is_open(&both, "https://a.example/"));
}

#[test]
fn what_is_refused_by_default_is_allowed_only_where_it_is_meant() {
    let everything = rules(&["0.0.0.0/0", "::/0"]);
    assert!(is_open(&everything, "http://8.8.8.8/"));
    assert!(!is_open(&everything, "http://127.0.0.1/"));
    assert!(!is_open(&everything, "http://169.254.169.254/"));
    assert!(is_open(&rules(&["127.0.0.1"]), "http://127.0.0.1:80/"));
    assert!(is_open(&rules(&["127.0.0.1:80"]), "http://127.0.0.1/"));
    assert!(!is_open(&rules(&["127.0.0.1:80"]), "http://127.0.0.1:81/"));
    assert!(!is_open(&rules(&["127.0.0.1"]), "http://127.0.0.2/"));
    assert!(is_open(
        &rules(&["169.254.0.0/16"]),
        "http://169.254.169.254/"
    ));
    assert!(is_open(&rules(&["[::1]:80"]), "http://[::1]/"));
    let local = rules(&["localhost"]);
    assert!(
        local
            .permits("localhost", IpAddr::V4(Ipv4Addr::LOCALHOST))
            .is_ok()
    );
    assert!(
        local
            .permits("localhost", "169.254.0.1".parse().unwrap())
            .is_err()
    );
}

#[test]
fn a_pattern_that_is_none_says_what_is_wrong() {
    let fails = |pattern: &str, part: &str| {
        let error = OutboundRules::parse(&[pattern.to_owned()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("10.0.0.0/8"), "{text}");
    };
    fails("", "no host, address or network");
    fails("https://a.example/", "no network");
    fails("a.example:0", "its port is no number");
    fails("a.example:99999", "its port is no number");
    fails("a.*.example", "no host, address or network");
    fails("*", "no host, address or network");
    fails("10.0.0.0/33", "larger than addresses are");
    fails("a/8", "no network");
    fails("10.0.0.0/8:80", "larger than addresses are");
}

proptest::proptest! {
    #[test]
    fn any_pattern_is_read_or_refused(pattern in "[a-f0-9*.:/\\[\\]é ]{0,24}", address: std::net::Ipv4Addr) {
        if let Ok(rules) = OutboundRules::parse(&[pattern]) {
            let _ = rules.permits("a.example", IpAddr::V4(address));
        }
    }

    #[test]
    fn no_network_opens_what_is_not_in_it(bits in 8_u8..=32, net: std::net::Ipv4Addr, address: std::net::Ipv4Addr) {
        let rules = rules(&[&format!("{net}/{bits}")]);
        let same = (u32::from(net) ^ u32::from(address)).leading_zeros() >= bits.into();
        let permitted = rules.permits("a.example", IpAddr::V4(address)).is_ok();
        proptest::prop_assert!(same || !permitted);
    }
}
