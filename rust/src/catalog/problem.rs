//! What is wrong with a change, for the person who made it.

/// Which of the two answers a change gets: invalid in itself, or at odds with another route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Validation,
    Conflict,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "VALIDATION",
            Self::Conflict => "CONFLICT",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the changes document, such as `upsertRoutes[3].pathPattern`.
    pub path: String,
    pub code: Code,
    pub message: String,
    pub route_id: Option<String>,
    /// The route that is in the way.
    pub other_route_id: Option<String>,
    pub other_route_name: Option<String>,
}

/// Most problems that one change reports.
pub const MAX_PROBLEMS: usize = 100;

/// Problems in the order found; those beyond [`MAX_PROBLEMS`] are not kept.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// A field that breaks a rule.
    pub fn invalid(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        route: Option<&str>,
    ) {
        self.push(Problem {
            path: path.into(),
            code: Code::Validation,
            message: message.into(),
            route_id: route.map(Into::into),
            other_route_id: None,
            other_route_name: None,
        });
    }

    pub fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.0.push(problem);
        }
    }

    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_PROBLEMS
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// How many more would be kept.
    pub fn room(&self) -> usize {
        MAX_PROBLEMS - self.0.len()
    }

    /// `value`, unless there are problems.
    ///
    /// # Errors
    /// The problems.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match problem.path.as_str() {
                "" => write!(f, "{separator}{}", problem.message)?,
                path => write!(f, "{separator}{path}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}
