//! How a merge ends when the store is closed.

use super::*;
use std::sync::mpsc::RecvTimeoutError;

#[test]
fn a_merge_whose_question_was_put_off_does_not_keep_the_store_from_closing() {
    let (answer, answered) = sync_channel::<()>(1);
    let (_merge, questions) = sync_channel(2);
    // It waits as a merge does, but not for ever, so that the test can fail.
    let wait = move || {
        assert_eq!(answered.recv_timeout(Duration::from_secs(10)), Err(RecvTimeoutError::Disconnected))
    };
    let merge = std::thread::spawn(wait);
    let (ended, end) = sync_channel(1);
    let thread = std::thread::spawn(move || ended.send(merge.join().is_ok()).expect("the test waits"));
    drop(Running {
        deferred: Some(Question::Release(Vec::new(), answer)),
        questions,
        go: None,
        stop: Arc::default(),
        thread: Some(thread),
    });
    assert_eq!(end.recv(), Ok(true), "the merge was told to end");
}
