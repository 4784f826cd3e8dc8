//! The part of request validation that the head decides.

use super::admit::{Refused, Request};
use super::layout::Exchange;
use super::why;
use super::WorkerCore;
use crate::policy::validate::{ArchivedValidation, Fault};

impl WorkerCore {
    /// Refuse a request whose head breaks a rule of its route; otherwise note the limit of its body,
    /// which the data plane holds it to on the way.
    pub(super) fn validate(
        &mut self,
        ex: &mut Exchange,
        request: &Request<'_>,
        rules: &ArchivedValidation,
    ) -> Result<(), Refused> {
        if let Some(most) = rules.max_body() {
            ex.max_request_body = ex.max_request_body.min(most);
        }
        let mut details = Vec::new();
        let Err(fault) = rules.admit(request.head, &mut details) else {
            return Ok(());
        };
        ex.extras_mut().details = details;
        Err(match fault {
            Fault::ContentType => {
                // RFC 9110 section 15.5.16: which types would have been taken.
                let types: Vec<&str> = rules.content_types.iter().map(|range| &**range).collect();
                Refused {
                    answer: why::UNSUPPORTED_TYPE,
                    fields: format!("Accept: {}\r\n", types.join(", ")).into_bytes(),
                }
            }
            Fault::TooLarge => why::TOO_LARGE.into(),
            Fault::Missing => why::NOT_VALID.into(),
        })
    }
}
