//! Where Kaggle credentials are found, what is wrong with them when they cannot be used, and that
//! the key is shown nowhere.

use std::fs;

use ftap_dataset::DatasetError;
use ftap_dataset::kaggle::KaggleCredentials;
use tempfile::tempdir;

const KEY: &str = "0123456789abcdef-secret";

fn find(variables: &[(&str, &str)]) -> Result<KaggleCredentials, DatasetError> {
    KaggleCredentials::find_by(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_environment_comes_before_the_files() {
    let home = tempdir().unwrap();
    fs::create_dir(home.path().join(".kaggle")).unwrap();
    let json = r#"{"username": "of-file", "key": "k"}"#;
    fs::write(home.path().join(".kaggle/kaggle.json"), json).unwrap();
    let home = home.path().to_str().unwrap();
    let found = find(&[
        ("HOME", home),
        ("KAGGLE_USERNAME", "of-env"),
        ("KAGGLE_KEY", KEY),
    ]);
    assert_eq!(
        found.unwrap(),
        find(&[("KAGGLE_USERNAME", "of-env"), ("KAGGLE_KEY", KEY)]).unwrap()
    );
    assert_eq!(find(&[("HOME", home)]).unwrap().owner(), "of-file");
    let empty = [("HOME", home), ("KAGGLE_USERNAME", ""), ("KAGGLE_KEY", " ")];
    assert_eq!(find(&empty).unwrap().owner(), "of-file");
}

#[test]
fn each_of_the_usual_places_of_the_file_is_read() {
    let dir = tempdir().unwrap();
    let json = format!(r#"{{"username": "user", "key": "{KEY}"}}"#);
    for (variable, below) in [
        ("KAGGLE_CONFIG_DIR", ""),
        ("HOME", ".kaggle"),
        ("HOME", ".config/kaggle"),
        ("XDG_CONFIG_HOME", "kaggle"),
    ] {
        let root = dir.path().join(format!("{variable}{}", below.len()));
        fs::create_dir_all(root.join(below)).unwrap();
        let file = root.join(below).join("kaggle.json");
        fs::write(&file, &json).unwrap();
        let found = find(&[(variable, root.to_str().unwrap())]).unwrap();
        assert_eq!(found.source(), file.to_str().unwrap());
    }
}

#[test]
fn a_token_comes_first_from_the_environment_from_a_named_file_or_from_kaggles_folder() {
    let home = tempdir().unwrap();
    let folder = home.path().join(".kaggle");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("kaggle.json"),
        r#"{"username": "u", "key": "k"}"#,
    )
    .unwrap();
    let file = folder.join("access_token");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let home = home.path().to_str().unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(find(&[("HOME", home)]).unwrap().source(), file);
    let named = find(&[("KAGGLE_API_TOKEN", file), ("KAGGLE_USERNAME", "u")]).unwrap();
    assert_eq!(named, find(&[("HOME", home)]).unwrap());
    let given = find(&[("KAGGLE_API_TOKEN", KEY), ("HOME", home)]).unwrap();
    assert_eq!(given.source(), "KAGGLE_API_TOKEN");
    let shown = format!("{given:?} {named:?}");
    assert!(shown.contains("***") && !shown.contains(KEY), "{shown}");
    fs::write(file, "two words").unwrap();
    let error = find(&[("HOME", home)]).unwrap_err().to_string();
    assert!(
        error.contains("access_token") && !error.contains("two"),
        "{error}"
    );
}

#[test]
fn the_key_is_in_no_debug_output() {
    let credentials = find(&[("KAGGLE_USERNAME", "user"), ("KAGGLE_KEY", KEY)]).unwrap();
    let shown = format!("{credentials:?} {credentials:#?}");
    assert!(shown.contains("***") && !shown.contains(KEY), "{shown}");
}

#[test]
fn without_credentials_the_error_names_both_ways_to_give_them() {
    let home = tempdir().unwrap();
    let error = find(&[("HOME", home.path().to_str().unwrap())])
        .unwrap_err()
        .to_string();
    for part in [
        "KAGGLE_API_TOKEN",
        "KAGGLE_USERNAME and KAGGLE_KEY",
        ".kaggle",
        "kaggle.com/settings",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = find(&[("KAGGLE_USERNAME", "user")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("KAGGLE_KEY is not"), "{error}");
}

#[test]
fn a_credentials_file_that_cannot_be_used_is_named_and_not_shown() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("kaggle.json");
    for (text, part) in [
        (
            format!("{{\"username\": \"user\", \"key\": {KEY}}}"),
            "not JSON (line 1",
        ),
        (String::new(), "not JSON"),
        (format!("[\"{KEY}\"]"), "no text \"username\""),
        (format!("{{\"key\": \"{KEY}\"}}"), "no text \"username\""),
        ("{\"username\": \"user\"}".to_owned(), "no text \"key\""),
        (
            "{\"username\": \"user\", \"key\": \" \"}".to_owned(),
            "no text \"key\"",
        ),
        (
            "{\"username\": \"user\", \"key\": 12345678}".to_owned(),
            "no text \"key\"",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let error = find(&[("KAGGLE_CONFIG_DIR", dir.path().to_str().unwrap())]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("kaggle.json") && error.to_string().contains(part),
            "{shown}"
        );
        assert!(
            !shown.contains("secret") && !shown.contains("12345678"),
            "{shown}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_credentials_file_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let file = dir.path().join("kaggle.json");
    fs::write(&file, format!(r#"{{"username": "user", "key": "{KEY}"}}"#)).unwrap();
    let warning = |mode| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let found = find(&[("KAGGLE_CONFIG_DIR", dir.path().to_str().unwrap())]).unwrap();
        found.warning().map(str::to_owned)
    };
    assert_eq!(warning(0o600), None);
    let warned = warning(0o644).unwrap();
    assert!(
        warned.contains("chmod 600") && warned.contains("644"),
        "{warned}"
    );
}
