//! Three primaries with a replica each, as one cluster.

use super::client::Client;
use super::server::Server;
use super::wait::eventually;

/// Number of primaries, and of replicas.
const SHARDS: usize = 3;
const SLOTS: usize = 16_384;

/// Six servers that share the slots, on real time, because the protocol between the servers depends
/// on time.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The primaries, and then the replica of each primary at the start, in the order of the
    /// primaries.
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts a cluster whose nodes all agree, and whose replicas are in step.
    pub(crate) fn start() -> Self {
        let cluster = Self { nodes: (0..2 * SHARDS).map(|_| node()).collect() };
        for shard in 0..SHARDS {
            let mut client = cluster.nodes[shard].client();
            // Each primary has a separate epoch, so that the primaries need not first resolve a
            // conflict of epochs.
            client.call::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", shard + 1));
            let (first, end) = (shard * SLOTS / SHARDS, (shard + 1) * SLOTS / SHARDS);
            client.call::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1));
        }
        cluster.introduce();
        for shard in 0..SHARDS {
            let replicate = format!("CLUSTER REPLICATE {}", cluster.nodes[shard].node_id());
            cluster.nodes[SHARDS + shard].client().call::<()>(&replicate);
        }
        cluster.agree();
        cluster
    }

    /// Returns the URL by which a gateway finds the cluster; it has the addresses of all nodes.
    pub(crate) fn url(&self) -> String {
        let address = |node: &Server| node.address().to_string();
        let places: Vec<_> = self.nodes.iter().map(address).collect();
        format!("redis+cluster://{}", places.join(","))
    }

    /// The node with this number; the first three were started as primaries.
    pub(crate) fn node(&self, number: usize) -> &Server {
        &self.nodes[number]
    }

    /// The node with this number, to be stopped and started.
    pub(crate) fn node_mut(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number]
    }

    /// A hash tag, braces included, whose slot was given to this primary at the start.
    pub(crate) fn tag(&self, primary: usize) -> String {
        let mut client = self.nodes[primary].client();
        let owned = |tag: &String| {
            let slot: usize = client.call(&format!("CLUSTER KEYSLOT {tag}"));
            slot * SHARDS / SLOTS == primary
        };
        (0..).map(|number| format!("{{{number}}}")).find(owned).expect("a tag for every slot")
    }

    /// Stops the replica of a primary and restarts the primary, so that the primary has no state of
    /// any replica.
    pub(crate) fn leave_alone(&mut self, primary: usize) {
        self.nodes[SHARDS + primary].kill();
        self.nodes[primary].restart();
        let mut client = self.nodes[primary].client();
        eventually("the node serves again", || is_healthy(&mut client).then_some(()));
    }

    /// Waits until every node reports a healthy cluster, and every replica is in step.
    pub(crate) fn agree(&self) {
        for node in &self.nodes {
            let mut client = node.client();
            eventually("the node believes the cluster to be whole", || {
                let known = Known::to(&mut client);
                let whole = known.replicas == SHARDS && known.all_linked;
                (whole && is_healthy(&mut client)).then_some(())
            });
        }
        for node in &self.nodes {
            let mut client = node.client();
            eventually("the replica follows", || {
                let is_primary = client.info("replication", "role") == "master";
                let follows =
                    is_primary || client.info("replication", "master_link_status") == "up";
                follows.then_some(())
            });
        }
    }

    /// Introduces all nodes to each other.
    fn introduce(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[number + 1..] {
                let (port, bus_port) = (other.port(), other.bus_port());
                let meet = format!("CLUSTER MEET 127.0.0.1 {port} {bus_port}");
                node.client().call::<()>(&meet);
            }
        }
        for node in &self.nodes {
            let mut client = node.client();
            eventually("the node knows all others", || {
                let known = Known::to(&mut client);
                (known.nodes == self.nodes.len() && known.all_linked).then_some(())
            });
        }
    }
}

impl Server {
    /// Returns the ID of this node in its cluster.
    pub(crate) fn node_id(&self) -> String {
        self.client().call("CLUSTER MYID")
    }

    /// Returns a connection that may read from this node also while the node is a replica.
    pub(crate) fn reader(&self) -> Client {
        let mut client = self.client();
        client.call::<()>("READONLY");
        client
    }
}

fn node() -> Server {
    Server::builder()
        .cluster()
        // A shard without a primary does not stop the other shards.
        .config("cluster-require-full-coverage", "no")
        .config("cluster-replica-validity-factor", "0")
        .start()
}

/// The state of the cluster according to one node.
struct Known {
    nodes: usize,
    replicas: usize,
    /// True if all nodes have been introduced and are connected.
    all_linked: bool,
}

impl Known {
    fn to(client: &mut Client) -> Self {
        let text: String = client.call("CLUSTER NODES");
        let (mut nodes, mut replicas, mut all_linked) = (0, 0, true);
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (flags, link) = (fields[2], fields[7]);
            nodes += 1;
            replicas += usize::from(flags.contains("slave"));
            all_linked &= link == "connected";
            all_linked &= !flags.contains("handshake") && !flags.contains("fail");
        }
        Self { nodes, replicas, all_linked }
    }
}

/// Returns whether the node serves, and has an owner for every slot.
fn is_healthy(client: &mut Client) -> bool {
    let info: String = client.call("CLUSTER INFO");
    let slots = format!("cluster_slots_ok:{SLOTS}\r\n");
    info.contains("cluster_state:ok\r\n") && info.contains(&slots)
}
