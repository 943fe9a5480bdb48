use super::*;

#[test]
fn a_place_for_logs_is_a_directory_of_a_bucket() {
    let parse = |text| AccessLogs::parse(text).map(|logs| logs.to_string());
    assert_eq!(parse("s3://logs").unwrap(), "s3://logs/");
    assert_eq!(parse("s3://logs/of/lake").unwrap(), "s3://logs/of/lake/");
    assert_eq!(parse("s3://logs//of/").unwrap(), "s3://logs/of/");
    for wrong in ["", "logs/of", "s3://", "s3:///prefix", "az://logs/of"] {
        assert_eq!(
            parse(wrong).unwrap_err().kind(),
            ErrorKind::Usage,
            "{wrong}"
        );
    }
}

#[test]
fn a_key_is_the_same_by_its_id_and_its_arn() {
    let with = |key: &str| Encryption {
        algorithm: "aws:kms".to_owned(),
        kms_key: Some(key.to_owned()),
    };
    let arn = "arn:aws:kms:us-east-1:123456789012:key/12-ab";
    assert!(with(arn).uses(arn) && with(arn).uses("12-ab") && with("12-ab").uses(arn));
    assert!(!with(arn).uses("2-ab") && !with("alias/lake").uses(arn));
    let none = Encryption {
        algorithm: "AES256".to_owned(),
        kms_key: None,
    };
    assert!(!none.uses(arn));
}

#[test]
fn an_endpoint_names_its_bucket_once() {
    let host = "https://s3.example.net";
    assert_eq!(without_bucket("https://lake.s3.example.net", "lake"), host);
    assert_eq!(without_bucket(host, "lake"), host);
}
