//! A replica set of several members, for tests of elections and of lost members.

use std::time::Duration;

use bson::doc;
use mongodb::Client;

use crate::{
    error::{Result, TestkitError},
    mongod::{Member, Mongod, MongodBuilder, REPLICA_SET, State, connect, executable},
    process::with_free_port,
};

/// An election takes two seconds here; a machine with two busy cores may need many.
const ELECTION: Duration = Duration::from_secs(60);

/// Members on 127.0.0.1, without authentication and TLS. Dropping it kills them and removes their data.
#[derive(Debug)]
pub struct ReplicaSet {
    members: Vec<Member>,
}

impl ReplicaSet {
    /// Starts `count` members and waits until one is primary and the others are secondaries.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn start(count: usize) -> Result<Self> {
        Self::start_with(count, Mongod::builder()).await
    }

    /// The same with other options for every member; not authentication and TLS.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn start_with(count: usize, builder: MongodBuilder) -> Result<Self> {
        let executable = &executable().await?;
        // The least that mongod accepts: several of them share one machine.
        let builder = &builder.cache_gib(0.25);
        let mut members = Vec::new();
        for _ in 0..count {
            let member = with_free_port(|port| Member::start(executable, builder, port)).await?;
            members.push(member);
        }
        let addresses: Vec<_> = members.iter().map(Member::address).collect();
        let first = members
            .first()
            .ok_or_else(|| TestkitError::new("a replica set has at least one member"))?;
        first.initiate(&addresses).await?;
        for member in &mut members {
            member.wait_for(&[State::Primary, State::Secondary]).await?;
        }
        let set = Self { members };
        set.wait_for_primary().await?;
        Ok(set)
    }

    /// Connection string that names every member.
    pub fn uri(&self) -> String {
        self.uri_for("")
    }

    /// Connection string that names every member and a database.
    pub fn uri_for(&self, database: &str) -> String {
        let hosts: Vec<String> = self
            .members
            .iter()
            .map(|member| member.address().to_string())
            .collect();
        format!(
            "mongodb://{}/{database}?replicaSet={REPLICA_SET}",
            hosts.join(",")
        )
    }

    /// A client of the set.
    ///
    /// # Errors
    /// The driver refuses [`ReplicaSet::uri`].
    pub async fn client(&self) -> Result<Client> {
        connect(&self.uri()).await
    }

    /// Connection string of one member alone.
    ///
    /// # Errors
    /// There is no such member.
    pub fn uri_of(&self, member: usize) -> Result<String> {
        let address = self.member(member)?.address();
        Ok(format!("mongodb://{address}/?directConnection=true"))
    }

    /// Process id of a member, unless it has been killed.
    pub fn pid(&self, member: usize) -> Option<u32> {
        self.members.get(member).and_then(Member::pid)
    }

    /// Waits until there is a primary, and returns which member it is.
    ///
    /// # Errors
    /// There is none in time, for example because the majority has been killed.
    pub async fn wait_for_primary(&self) -> Result<usize> {
        self.wait_for_primary_other_than(None).await
    }

    async fn wait_for_primary_other_than(&self, old: Option<usize>) -> Result<usize> {
        let poll = async {
            loop {
                for (index, member) in self.members.iter().enumerate() {
                    let running = member.pid().is_some() && old != Some(index);
                    if running && member.state().await == Some(State::Primary) {
                        return index;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(ELECTION, poll).await.map_err(|_| {
            TestkitError::new(format!(
                "the replica set has no primary after {} s",
                ELECTION.as_secs()
            ))
        })
    }

    /// Makes the primary step down and waits for another; returns which member that is.
    ///
    /// # Errors
    /// No other member becomes primary in time.
    pub async fn step_down(&self) -> Result<usize> {
        let old = self.wait_for_primary().await?;
        let command = doc! { "replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 10 };
        self.member(old)?.command(command).await?;
        self.wait_for_primary_other_than(Some(old)).await
    }

    /// SIGKILL for one member. Its data stays for [`ReplicaSet::restart_member`].
    ///
    /// # Errors
    /// There is no such member.
    pub fn kill_member(&mut self, member: usize) -> Result<()> {
        self.member_mut(member)?.kill();
        Ok(())
    }

    /// Starts a member again on the same port and data, and waits until it is primary or secondary.
    ///
    /// # Errors
    /// There is no such member, or it does not recover in time.
    pub async fn restart_member(&mut self, member: usize) -> Result<()> {
        let member = self.member_mut(member)?;
        member.restart()?;
        member.wait_for(&[State::Primary, State::Secondary]).await
    }

    fn member(&self, index: usize) -> Result<&Member> {
        self.members.get(index).ok_or_else(|| no_member(index))
    }

    fn member_mut(&mut self, index: usize) -> Result<&mut Member> {
        self.members.get_mut(index).ok_or_else(|| no_member(index))
    }
}

fn no_member(index: usize) -> TestkitError {
    TestkitError::new(format!("the replica set has no member {index}"))
}
