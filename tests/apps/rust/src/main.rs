//! For each request `/r/N`: asks the backend for `/a/N`, the database for N, and the backend for `/b/N`.
//!
//! `WORK` says who does that:
//! - `handler` (the default): the request's own task. At most ten requests do it at a time.
//! - `spawned`: another task, for which the handler waits.
//! - `worker`: one of three tasks to which all requests are handed over by a channel. They make the calls by themselves.
//!
//! `THREADS=1`: the runtime has only the main thread.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

/// What the calls are made with.
struct Work {
    backend: String,
    client: reqwest::Client,
    database: Option<PgPool>,
    places: Semaphore,
}

impl Work {
    async fn ask_backend(&self, path: &str, number: u64) {
        let response = self.client.get(format!("{}/{path}/{number}", self.backend)).send().await;
        response.expect("the backend answers").bytes().await.expect("the response is complete");
    }

    async fn run(&self, number: u64) {
        let _place = self.places.acquire().await.expect("it is never closed");
        self.ask_backend("a", number).await;
        if let Some(database) = &self.database {
            let statement = format!("SELECT 1 AS r{number}");
            sqlx::raw_sql(&statement).execute(database).await.expect("the database answers");
        }
        self.ask_backend("b", number).await;
    }
}

type Job = (u64, oneshot::Sender<()>);

#[derive(Clone)]
enum Doer {
    Handler,
    Spawned,
    Worker(mpsc::Sender<Job>),
}

async fn serve(State((work, doer)): State<(Arc<Work>, Doer)>, Path(number): Path<u64>) -> &'static str {
    match doer {
        Doer::Handler => work.run(number).await,
        Doer::Spawned => tokio::spawn(async move { work.run(number).await }).await.expect("it does not panic"),
        Doer::Worker(jobs) => {
            let (done, is_done) = oneshot::channel();
            jobs.send((number, done)).await.expect("a worker waits");
            is_done.await.expect("a worker does it");
        }
    }
    "done"
}

fn doer(work: &Arc<Work>) -> Doer {
    match env::var("WORK").as_deref() {
        Ok("spawned") => Doer::Spawned,
        Ok("worker") => {
            let (sender, receiver) = mpsc::channel::<Job>(64);
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..3 {
                let (work, receiver) = (Arc::clone(work), Arc::clone(&receiver));
                tokio::spawn(async move {
                    loop {
                        let job = receiver.lock().await.recv().await;
                        let Some((number, done)) = job else { return };
                        work.run(number).await;
                        let _ = done.send(());
                    }
                });
            }
            Doer::Worker(sender)
        }
        _ => Doer::Handler,
    }
}

async fn listen() {
    let port = env::args().nth(1).expect("the first argument is the port");
    let database = env::var("DATABASE_URL").ok().map(|url| {
        let options = PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_secs(60));
        options.connect_lazy(&url).expect("the URL is valid")
    });
    let work = Arc::new(Work {
        backend: env::var("BACKEND_URL").expect("BACKEND_URL is set"),
        client: reqwest::Client::builder().no_proxy().build().expect("it has no options that fail"),
        database,
        places: Semaphore::new(10),
    });
    let doer = doer(&work);
    let router = Router::new().route("/r/{number}", get(serve)).with_state((work, doer));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    println!("listening");
    axum::serve(listener, router).await.expect("it never ends");
}

fn main() {
    let mut runtime = match env::var("THREADS").as_deref() {
        Ok("1") => tokio::runtime::Builder::new_current_thread(),
        _ => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2);
            runtime
        }
    };
    runtime.enable_all().build().expect("a runtime").block_on(listen());
}
