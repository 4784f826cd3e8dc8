//! Where a request's body ends (RFC 9112 section 6).

use _core::codec::Refusal as R;
use _core::codec::*;

use crate::common::*;

#[test]
fn rfc9112_6_framing() {
    let cases = [
        ("", BodyFraming::None),
        ("Content-Length: 0\r\n", BodyFraming::Length(0)),
        ("Content-Length: 0042\r\n", BodyFraming::Length(42)),
        (
            "Content-Length: 9223372036854775807\r\n",
            BodyFraming::Length(i64::MAX as u64),
        ),
        ("Transfer-Encoding: chunked\r\n", BodyFraming::Chunked),
        ("transfer-encoding:\t Chunked \r\n", BodyFraming::Chunked),
    ];
    for (lines, framing) in cases {
        with_request(&with_lines(lines), |head| assert_eq!(head.framing, framing));
    }
    let refusals = [
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            R::LengthAndCoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            R::LengthAndCoding,
        ),
        (
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            R::LengthInvalid,
        ),
        ("Content-Length: 1, 1\r\n", R::LengthInvalid),
        ("Content-Length: 1,\r\n", R::LengthInvalid),
        ("Content-Length: +1\r\n", R::LengthInvalid),
        ("Content-Length: -1\r\n", R::LengthInvalid),
        ("Content-Length: 1 2\r\n", R::LengthInvalid),
        ("Content-Length: 0x1\r\n", R::LengthInvalid),
        ("Content-Length: 1.0\r\n", R::LengthInvalid),
        ("Content-Length:\r\n", R::LengthInvalid),
        ("Content-Length: 9223372036854775808\r\n", R::LengthInvalid),
        ("Content-Length: 18446744073709551616\r\n", R::LengthInvalid),
        (
            "Content-Length: 99999999999999999999999\r\n",
            R::LengthInvalid,
        ),
        ("Transfer-Encoding: chunked, chunked\r\n", R::CodingInvalid),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            R::CodingInvalid,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", R::CodingInvalid),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            R::CodingInvalid,
        ),
        ("Transfer-Encoding: chunked;a=b\r\n", R::CodingInvalid),
        ("Transfer-Encoding: chunked,\r\n", R::CodingInvalid),
        ("Transfer-Encoding: ,chunked\r\n", R::CodingInvalid),
        ("Transfer-Encoding:\r\n", R::CodingInvalid),
        ("Transfer-Encoding: \"chunked\"\r\n", R::CodingInvalid),
        ("Transfer-Encoding: chunked chunked\r\n", R::CodingInvalid),
        ("Transfer-Encoding: xchunked\r\n", R::CodingInvalid),
        ("Transfer-Encoding: identity\r\n", R::CodingInvalid),
        ("Transfer-Encoding: gzip\r\n", R::CodingInvalid),
        ("Transfer-Encoding: gzip, chunked\r\n", R::CodingUnknown),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            R::CodingUnknown,
        ),
    ];
    for (lines, why) in refusals {
        refused(&with_lines(lines), why);
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(old, R::CodingInHttp10);
}

#[test]
fn underscores_do_not_smuggle_framing() {
    with_request(
        &with_lines("Content_Length: 5\r\nTransfer_Encoding: chunked\r\n"),
        |head| {
            assert_eq!(head.framing, BodyFraming::None);
        },
    );
}
