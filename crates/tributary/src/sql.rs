//! `tributary sql`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_lake::{Lake, Location};
use tributary_model::{Error, ErrorKind, Result};
use tributary_warehouse::AttachedServer;

use crate::cli::SqlArguments;
use crate::{DONE, address};

pub(crate) async fn run(arguments: SqlArguments, stop: CancellationToken) -> Result<u8> {
    let query = async {
        let attached = arguments.attached.iter().map(|text| attached(text));
        let attached = attached.collect::<Result<Vec<_>>>()?;
        let mut lake = Lake::open(Location::parse(&arguments.place.lake)?).await?;
        for (name, database) in attached {
            lake.attach(&name, Arc::new(database))?;
        }
        let mut out = std::io::BufWriter::new(std::io::stdout());
        lake.query(&arguments.query, arguments.output.into(), &mut out)
            .await
    };
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        result = query => result.map(|()| DONE),
    }
}

/// The database that `NAME=ADDRESS` attaches.
fn attached(text: &str) -> Result<(String, AttachedServer)> {
    let named = text.split_once('=').filter(|(name, _)| is_name(name));
    let Some((name, at)) = named else {
        // What was given is not repeated, for it may be an address with a password.
        return Err(
            Error::new(ErrorKind::Usage, "--attach names no database")
                .because("a name and an address are to be given, with a `=` between them")
                .remedy(
                    "write it as --attach pg=postgres://user:password@host/database; a name has letters, digits, `_` and `-`",
                ),
        );
    };
    let server = AttachedServer::new(&address(at)?).map_err(|error| error.on("attached", name))?;
    Ok((name.to_owned(), server))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}
