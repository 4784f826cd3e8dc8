//! The gateway's own answers and dates.

use _core::codec::date::{http_date, timestamp};
use _core::codec::verdict::{code_for, phrase_for};
use _core::codec::*;

use crate::common::*;

fn not_found() -> ErrorAnswer<'static> {
    ErrorAnswer {
        status: 404,
        code: code_for(404),
        message: "No route for \"/a\\b\".\n",
        details: &[],
        request_id: b"id-1",
        accepts_json: true,
        close: false,
        client_minor: 1,
        head_request: false,
        fields: &[],
        unix: 784_111_777,
    }
}

fn written(answer: &ErrorAnswer<'_>) -> (String, String) {
    let mut out = Vec::new();
    write_error(&mut out, answer);
    let asked = ResponseContext {
        head_request: answer.head_request,
        upgrade: None,
    };
    with_response(&out, &asked, |head| {
        assert_eq!(head.status, answer.status);
        let body = &out[head.head_len..];
        let length = head.field(b"content-length").expect("a length");
        if !answer.head_request {
            assert_eq!(length, body.len().to_string().as_bytes());
        }
        let head = String::from_utf8(out[..head.head_len].to_vec()).expect("ASCII");
        (head, String::from_utf8(body.to_vec()).expect("UTF-8"))
    })
}

#[test]
fn json_for_those_who_take_it() {
    let (head, body) = written(&not_found());
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
    assert!(head.contains("\r\nContent-Type: application/json\r\n"));
    assert!(head.contains("\r\nX-Request-ID: id-1\r\n"));
    assert!(!head.contains("Connection"));
    let error: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        error,
        serde_json::json!({"error": {
            "code": "NOT_FOUND", "message": "No route for \"/a\\b\".\n", "details": [],
            "traceId": "id-1", "timestamp": "1994-11-06T08:49:37Z",
        }})
    );
}

#[test]
fn details_are_escaped() {
    let details = [Detail {
        field: "headers.A\"b".into(),
        rule: "required",
        message: "\u{1}<x> é \\ \n\"".into(),
    }];
    let answer = ErrorAnswer {
        details: &details,
        ..not_found()
    };
    let (_, body) = written(&answer);
    let error: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        error["error"]["details"],
        serde_json::json!([{
            "field": "headers.A\"b", "rule": "required", "message": "\u{1}<x> é \\ \n\"",
        }])
    );
    let (_, body) = written(&ErrorAnswer {
        accepts_json: false,
        ..answer
    });
    assert!(body.contains("\n- ?<x> é \\ ?\"\nrequest id"));
}

#[test]
fn text_for_the_others() {
    let (head, body) = written(&ErrorAnswer {
        accepts_json: false,
        ..not_found()
    });
    assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    assert!(body.starts_with("404 NOT_FOUND: No route for"));
    assert!(body.ends_with("id-1\n"));
}

#[test]
fn extra_fields_and_the_connection() {
    let answer = ErrorAnswer {
        status: 405,
        fields: &[b"Allow: GET, HEAD\r\n", b"Retry-After: 1\r\n"],
        close: true,
        ..not_found()
    };
    let (head, _) = written(&answer);
    assert!(head.contains("\r\nAllow: GET, HEAD\r\nRetry-After: 1\r\n"));
    assert!(head.contains("\r\nConnection: close\r\n"));
    let (head, _) = written(&ErrorAnswer {
        client_minor: 0,
        ..not_found()
    });
    assert!(head.contains("\r\nConnection: keep-alive\r\n"));
}

#[test]
fn rfc9110_9_3_2_head_gets_the_same_head() {
    let (get, body) = written(&not_found());
    let (head, none) = written(&ErrorAnswer {
        head_request: true,
        ..not_found()
    });
    assert_eq!(get, head);
    assert!(!body.is_empty() && none.is_empty());
}

#[test]
fn rfc9110_5_6_7_dates() {
    for (unix, text, stamp) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z"),
        (
            784_111_777,
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ),
        (
            951_782_400,
            "Tue, 29 Feb 2000 00:00:00 GMT",
            "2000-02-29T00:00:00Z",
        ),
        (
            951_868_799,
            "Tue, 29 Feb 2000 23:59:59 GMT",
            "2000-02-29T23:59:59Z",
        ),
        (
            1_709_251_200,
            "Fri, 01 Mar 2024 00:00:00 GMT",
            "2024-03-01T00:00:00Z",
        ),
        (
            4_107_542_400,
            "Mon, 01 Mar 2100 00:00:00 GMT",
            "2100-03-01T00:00:00Z",
        ),
        (
            u64::MAX,
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "9999-12-31T23:59:59Z",
        ),
    ] {
        assert_eq!(http_date(unix), *text.as_bytes());
        assert_eq!(timestamp(unix), *stamp.as_bytes());
    }
    let mut cache = DateCache::new();
    assert_eq!(cache.at(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(cache.at(784_111_777), DATE);
    assert_eq!(cache.at(784_111_777), DATE);
}

#[test]
fn every_status_we_answer_with_has_words() {
    for status in [
        400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431, 500, 501, 502, 503, 504, 505,
    ] {
        assert_ne!(phrase_for(status), "Error", "{status}");
        assert_eq!(
            code_for(status) == "INTERNAL_ERROR",
            status == 500,
            "{status}"
        );
    }
}
