//! Arguments of `tributary run` and of the commands that speak of what it runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The file
    #[arg(
        value_name = "FILE",
        default_value = "tributary.yaml",
        env = "TRIBUTARY_CONFIG"
    )]
    pub(crate) file: PathBuf,
    /// How what happens is told
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The file that says what runs
    #[arg(
        long,
        value_name = "FILE",
        default_value = "tributary.yaml",
        env = "TRIBUTARY_CONFIG"
    )]
    pub(crate) config: PathBuf,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs: when they run, and how they last did
    List {
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// List runs, the newest first
    History {
        /// Only those of this job
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Only those in this state: queued, running, succeeded, failed, cancelled or skipped
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Show a run: its steps, and what they told
    Show {
        /// The run, by its id
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Cancel a run that waits or runs
    Cancel {
        /// The run, by its id
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a job run
    Run {
        /// The job
        #[arg(value_name = "NAME")]
        job: String,
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        arguments: JobArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum FunctionCommand {
    /// Run a function of an application, and print what it returns
    ///
    /// It runs here, with the services of the configuration, and is not recorded. Exit status: 0 it
    /// returned; 1 it threw.
    Run {
        /// The function
        #[arg(value_name = "NAME")]
        name: String,
        /// An argument, as Extended JSON; give it again for each next one
        #[arg(long, value_name = "EJSON")]
        arg: Vec<String>,
        #[command(flatten)]
        arguments: FunctionArguments,
    },
    /// Try functions with the cases of a directory
    ///
    /// Each file NAME.json is a case, as Extended JSON: {"function": "total", "args": [{"order": 5}],
    /// "returns": 12}; or with "throws", a text that is to be in the error, in place of "returns".
    /// "console" is an array of texts that are to be written to the console. Exit status: 0 all agree;
    /// 1 some do not.
    Test {
        /// The directory of the cases
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
        #[command(flatten)]
        arguments: FunctionArguments,
    },
}

/// Which application.
#[derive(Debug, Args)]
pub(crate) struct FunctionArguments {
    /// The application, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) file: JobArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TriggerCommand {
    /// List the triggers: what they watch, and how they are doing
    List {
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Show a trigger
    Show {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a trigger wait until it is resumed
    Pause {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a trigger go on that is paused or suspended
    Resume {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a trigger run for all that happened from a moment on, again where it has
    ///
    /// One that is suspended is resumed; one that is paused begins there when it is.
    Replay {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        /// The moment, as RFC 3339 has it: 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = crate::trigger::moment)]
        from: chrono::DateTime<chrono::Utc>,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// See, try again and discard the events that triggers have given up on
    #[command(subcommand)]
    Dlq(LetterCommand),
    /// List runs of functions, the newest first, or show one
    Runs {
        /// The run that is shown, by its id
        #[arg(value_name = "RUN")]
        run: Option<String>,
        /// Only those of this application
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        app: Option<String>,
        /// Only those of this function
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        function: Option<String>,
        /// Only those of this trigger
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        trigger: Option<String>,
        /// Only those that failed
        #[arg(long, conflicts_with = "run")]
        failed: bool,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        arguments: JobArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LetterCommand {
    /// List dead letters, the newest first
    List {
        /// Only those of this trigger
        #[arg(value_name = "TRIGGER")]
        name: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Show a dead letter, and what its function was called with
    Show {
        /// The dead letter, by its id
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have dead letters be tried again: those that succeed are gone
    Replay {
        #[command(flatten)]
        which: LetterArguments,
    },
    /// Forget dead letters
    Discard {
        #[command(flatten)]
        which: LetterArguments,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub(crate) struct LetterArguments {
    /// The dead letters, by their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) ids: Vec<String>,
    /// All of this trigger
    #[arg(long, value_name = "TRIGGER", conflicts_with = "ids")]
    pub(crate) all: Option<String>,
    #[command(flatten)]
    pub(crate) arguments: JobArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// Tell every receiver of the file that this is a test
    Test {
        #[command(flatten)]
        arguments: JobArguments,
    },
}
