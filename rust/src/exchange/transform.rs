//! A route's transformations, where they meet an exchange.

use super::admit::Request;
use super::extras::Extras;
use super::layout::Exchange;
use super::why::{self, Answer};
use super::WorkerCore;
use crate::codec::values::is_host;
use crate::codec::{self, target, Edit, Limits, Names};
use crate::journal::context::Carry;
use crate::policy::transform::respond::Prepared;
use crate::policy::transform::rewrite::Regexes;
use crate::policy::transform::said::Said;
use crate::policy::transform::template::ArchivedPart;
use crate::policy::transform::{ArchivedRequestChange, ArchivedTransformations};
use crate::policy::{cors, ArchivedPolicy};
use crate::snapshot::ArchivedBackend;

/// Memory and compiled expressions that live as long as the worker.
#[derive(Default)]
pub(super) struct Workspace {
    regexes: Regexes,
    lines: Vec<u8>,
    rewritten: Vec<u8>,
    normal: Vec<u8>,
}

fn said<'a>(ex: &'a Exchange, request: &Request<'a>) -> Said<'a> {
    Said {
        head: request.head,
        client_ip: request.peer.ip(),
        request_id: ex.request_id(),
        route_name: request.route.name.as_bytes(),
        trace_id: ex
            .noted()
            .and_then(|entry| entry.context)
            .map(|context| context.trace_id),
    }
}

impl WorkerCore {
    /// Keep what the route's answers get, whoever gives them: fields for pages of other origins, and the
    /// lines of the response transformation as far as the request decides them.
    pub(super) fn prepare_answer(
        &self,
        ex: &mut Exchange,
        request: &Request<'_>,
        policy: &ArchivedPolicy,
    ) -> Result<(), Answer> {
        let change = policy
            .transformations
            .as_deref()
            .and_then(|t| t.response.as_ref());
        let cors = policy.cors.as_deref();
        if change.is_none() && cors.is_none() {
            return Ok(());
        }
        let mut prepared = Prepared::default();
        if let Some(change) = change {
            if !prepared.prepare(change, &said(ex, request), self.limits.head) {
                return Err(why::HEAD_GREW);
            }
        }
        if let Some(cors) = cors {
            for name in cors::FIELDS {
                prepared.drop_name(name);
            }
            let origin = super::cors::single(request.head, b"origin");
            cors.write_answer(&mut ex.extras_mut().answer_fields, origin);
        }
        ex.extras_mut().response = Some(prepared);
        Ok(())
    }

    /// Write the head for a backend; again, when the request goes to another one.
    #[inline]
    pub(super) fn write_head(
        &mut self,
        ex: &mut Exchange,
        request: &Request<'_>,
        backend: &ArchivedBackend,
    ) -> Result<(), Answer> {
        let policy = request.route.policy.as_deref();
        match policy.and_then(|policy| policy.transformations.as_deref()) {
            None => {
                self.head.clear();
                forward(
                    &mut self.head,
                    ex,
                    request,
                    backend,
                    None,
                    self.edge.forwarded,
                );
                Ok(())
            }
            Some(changes) => self.write_changed_head(ex, request, backend, changes),
        }
    }

    #[inline(never)]
    fn write_changed_head(
        &mut self,
        ex: &mut Exchange,
        request: &Request<'_>,
        backend: &ArchivedBackend,
        changes: &ArchivedTransformations,
    ) -> Result<(), Answer> {
        if !ex.extras.is_null() {
            if let Some(prepared) = &mut ex.extras_mut().response {
                prepared.note_backend(backend.name.as_bytes());
            }
        }
        self.head.clear();
        let Some(change) = changes.request.as_ref() else {
            forward(
                &mut self.head,
                ex,
                request,
                backend,
                None,
                self.edge.forwarded,
            );
            return Ok(());
        };
        let edit = self
            .changes
            .edit(change, &said(ex, request), backend, &self.limits)?;
        forward(
            &mut self.head,
            ex,
            request,
            backend,
            Some(&edit),
            self.edge.forwarded,
        );
        if self.head.len() > self.limits.head {
            return Err(why::HEAD_GREW);
        }
        Ok(())
    }
}

#[inline]
fn forward(
    out: &mut Vec<u8>,
    ex: &Exchange,
    request: &Request<'_>,
    backend: &ArchivedBackend,
    edit: Option<&Edit<'_>>,
    forwarded: bool,
) {
    let policy = request.route.policy.as_deref();
    let auth = policy.and_then(|policy| policy.auth.as_ref());
    let identity = ex.extras().and_then(|extras| extras.identity.as_deref());
    let trace = ex.noted().and_then(|entry| entry.traceparent());
    let context = codec::ForwardContext {
        client_ip: request.hop.ip(),
        trusted: request.hop.trusted != 0,
        secure: request.hop.tls != 0,
        request_id: ex.request_id(),
        backend_host: backend.authority.as_bytes(),
        forwarded,
        forward_expect: true,
        withheld: auth.map_or(b"", |auth| auth.withheld()),
        added: identity.map_or(b"", |identity| &identity.field),
        trace: trace.as_ref().map(|(context, traceparent)| codec::Trace {
            traceparent,
            begins: context.carry == Carry::Restart,
        }),
        edit,
    };
    codec::write_upstream_head(out, request.head, &context);
}

impl Workspace {
    /// What a change makes of one request on its way to one backend.
    fn edit<'a>(
        &'a mut self,
        change: &'a ArchivedRequestChange,
        said: &Said<'_>,
        backend: &ArchivedBackend,
        limits: &Limits,
    ) -> Result<Edit<'a>, Answer> {
        self.lines.clear();
        for field in change.add_headers.iter() {
            let from = self.lines.len();
            self.lines.extend_from_slice(field.name.as_bytes());
            self.lines.extend_from_slice(b": ");
            let value = self.lines.len();
            field.value.render(&mut self.lines, said, |out, part| {
                if matches!(part, ArchivedPart::BackendName) {
                    out.extend_from_slice(backend.name.as_bytes());
                }
            });
            let written = self.lines.get(value..).unwrap_or_default();
            if field.name.eq_ignore_ascii_case("host") && !is_host(written) {
                return Err(why::HOST_FAILED);
            }
            if written.is_empty() {
                self.lines.truncate(from);
            } else {
                self.lines.extend_from_slice(b"\r\n");
            }
            if self.lines.len() > limits.head {
                return Err(why::HEAD_GREW);
            }
        }
        let path = match change.rewrite_path.as_ref() {
            None => None,
            Some(rule) => {
                let path = &mut self.rewritten;
                match self
                    .regexes
                    .rewrite(rule, said.head.path, limits.target, path)
                {
                    None => return Err(why::REWRITE_FAILED),
                    Some(false) => None,
                    Some(true) => {
                        if path.is_empty() {
                            path.push(b'/');
                        }
                        // By the rules that hold for clients: no other form reaches a backend.
                        let found = target::normalise(path, &mut self.normal);
                        match found {
                            Ok(found) if found.query.is_none() => Some(found.path),
                            _ => return Err(why::REWRITE_FAILED),
                        }
                    }
                }
            }
        };
        Ok(Edit {
            drops: change.drops.names(),
            lines: &self.lines,
            path,
        })
    }

    /// Lines that the backend's answer gets, and the names of its own that it loses.
    pub(super) fn fields<'a>(
        &'a mut self,
        extras: &'a Extras,
        took_ns: u64,
    ) -> (&'a [u8], Option<Names<'a>>) {
        let Some(prepared) = &extras.response else {
            return (&extras.answer_fields, None);
        };
        self.lines.clear();
        self.lines.extend_from_slice(&extras.answer_fields);
        prepared.write(&mut self.lines, took_ns / 1_000_000);
        (&self.lines, Some(prepared.drops()))
    }

    /// Lines that an answer of the gateway gets.
    pub(super) fn own_fields<'a>(&'a mut self, extras: &'a Extras, took_ns: u64) -> &'a [u8] {
        let Some(prepared) = &extras.response else {
            return &extras.answer_fields;
        };
        self.lines.clear();
        self.lines.extend_from_slice(&extras.answer_fields);
        prepared.write_own(&mut self.lines, took_ns / 1_000_000);
        &self.lines
    }
}
