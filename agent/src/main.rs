use onlooker::kernel::capability;
fn main() {
    let report = capability::examine();
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}
