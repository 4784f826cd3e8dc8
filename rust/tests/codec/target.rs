//! RFC 3986 sections 5.2.4 and 6.2.2, and what a gateway must refuse beyond them.

use _core::codec::target::normalise;
use _core::codec::Refusal as R;

fn path_of(target: &str) -> Result<String, R> {
    let mut scratch = Vec::new();
    normalise(target.as_bytes(), &mut scratch)
        .map(|target| String::from_utf8(target.path.to_vec()).expect("paths are ASCII"))
}

#[test]
fn paths_have_one_form() {
    let cases = [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b-._~c", "/a/b-._~c"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("/[x]{y}|^`\"<>", "/[x]{y}|^`\"<>"), // tolerated, never changed
        ("/%61%5A%30%2D%2e%5F%7E", "/aZ0-._~"),
        ("/%2f%3a%20%c3%a9", "/%2F%3A%20%C3%A9"),
        ("/%252e", "/%252e"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/a..b/.c/d.", "/a..b/.c/d."),
        ("/.", "/"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../../c", "/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/a%2F.b", "/a%2F.b"),
    ];
    for (target, path) in cases {
        assert_eq!(path_of(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    let cases = [
        ("/..", R::TargetAboveRoot),
        ("/../a", R::TargetAboveRoot),
        ("/a/../..", R::TargetAboveRoot),
        ("/%2e%2e/a", R::TargetAboveRoot),
        ("//", R::TargetEmptySegment),
        ("//a", R::TargetEmptySegment),
        ("/a//b", R::TargetEmptySegment),
        ("/a//", R::TargetEmptySegment),
        ("/a//../b", R::TargetEmptySegment),
        ("/a\\b", R::TargetCharacter),
        ("/a#b", R::TargetCharacter),
        ("/a b", R::TargetCharacter),
        ("/a\u{7f}", R::TargetCharacter),
        ("/\u{e9}", R::TargetCharacter),
        ("/%", R::TargetPercent),
        ("/%4", R::TargetPercent),
        ("/%4g", R::TargetPercent),
        ("/%g4", R::TargetPercent),
        ("/%4/1", R::TargetPercent),
        ("/%%41", R::TargetPercent),
        ("/%4?1", R::TargetPercent),
        ("/%00", R::TargetControl),
        ("/%0a", R::TargetControl),
        ("/%0D%0A", R::TargetControl),
        ("/%1F", R::TargetControl),
        ("/%7f", R::TargetControl),
        ("/a/..%2fb", R::TargetAmbiguous),
        ("/a%2f../b", R::TargetAmbiguous),
        ("/a%2f..%2fb", R::TargetAmbiguous),
        ("/a%2F%2e%2e/b", R::TargetAmbiguous),
        ("/a/..%5cb", R::TargetAmbiguous),
        ("/a/.%2fb", R::TargetAmbiguous),
        ("/a/..;/b", R::TargetAmbiguous),
        ("/a/.;x/b", R::TargetAmbiguous),
        ("/a/%2e%2e;x", R::TargetAmbiguous),
        ("a", R::TargetForm),
        ("", R::TargetForm),
    ];
    for (target, why) in cases {
        assert_eq!(path_of(target), Err(why), "{target}");
    }
}

#[test]
fn queries_are_never_changed() {
    let mut scratch = Vec::new();
    for query in ["", "a=b", "%zz", "/../..//", "?", "\\", "a=%2e&b[]={}|^"] {
        let target = format!("/p?{query}");
        let found = normalise(target.as_bytes(), &mut scratch).expect("a valid query");
        assert_eq!(found.query, Some(query.as_bytes()));
        assert!(found.verbatim);
    }
    for bad in ["/?#", "/?a b", "/?\u{e9}", "/?\t", "/?\0"] {
        let found = normalise(bad.as_bytes(), &mut scratch);
        assert_eq!(found.err(), Some(R::TargetCharacter), "{bad}");
    }
}

#[test]
fn a_normal_path_is_not_copied() {
    let target = b"/api/v1/users/42?x=/./";
    let mut scratch = Vec::new();
    let found = normalise(target, &mut scratch).expect("a normal path");
    assert!(found.verbatim);
    assert_eq!(found.path.as_ptr(), target.as_ptr());
}
