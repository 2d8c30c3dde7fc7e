use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn now() -> Timestamp {
    time("2026-08-22T10:00:00.000001Z")
}

fn masking(phrases: &[&str], prefixes: &[&str]) -> Masking {
    let phrases: Vec<_> = phrases.iter().map(|phrase| (*phrase).into()).collect();
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
    Masking::new(&phrases, &prefixes).expect("masking can be prepared")
}

/// What the writes come to, without stamps.
fn shown(masking: &Masking, writes: &[&[u8]]) -> Vec<u8> {
    let mut log = Log::new(1 << 40);
    let mut stream = Stream::new(masking, Origin::Script, Pipe::Stdout, false);
    for write in writes {
        stream.write(write, now(), &mut log);
    }
    stream.close(now(), &mut log);
    log.finish();
    log.take()
}

fn check(masking: &Masking, text: &str, expected: &str) {
    for split in 0..=text.len() {
        let (a, b) = text.as_bytes().split_at(split);
        let output = shown(masking, &[a, b]);
        assert_eq!(
            String::from_utf8_lossy(&output),
            expected,
            "{text:?} split at {split}"
        );
    }
    let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(
        String::from_utf8_lossy(&shown(masking, &single)),
        expected,
        "{text:?} byte by byte"
    );
}

#[test]
fn phrases_are_masked_over_any_border() {
    for (phrases, text, expected) in [
        (&["secret"][..], "a secret b", "a [MASKED] b"),
        (&["secret"], "secretsecret", "[MASKED][MASKED]"),
        (&["secret"], "secre", "secre"),
        (&["secret"], "secsecret", "sec[MASKED]"),
        (
            &["abc", "abcdef"],
            "abcdef abcde abc",
            "[MASKED] [MASKED]de [MASKED]",
        ),
        (&["b", "abc"], "abc b ab", "[MASKED] [MASKED] a[MASKED]"),
        (&["xab", "abcd"], "xabcd", "[MASKED]"),
        (&["aa"], "aaaaa", "[MASKED]"),
        (&["a"], "aba", "[MASKED]b[MASKED]"),
        (&["one\ntwo"], "one\ntwo one two", "[MASKED] one two"),
        (&["MASKED", "x"], "x MASKED", "[MASKED] [MASKED]"),
        (&["é€"], "<é€>", "<[MASKED]>"),
        (&["bcbd", "abcbc"], "abcbd abcbcbd", "a[MASKED] [MASKED]"),
        (&[], "nothing", "nothing"),
    ] {
        check(&masking(phrases, &[]), text, expected);
    }
}

#[test]
fn only_a_possible_beginning_is_held_back() {
    let masking = masking(&["a very long secret that is not here"], &[]);
    let mut log = Log::new(1 << 20);
    let mut stream = Stream::new(&masking, Origin::Script, Pipe::Stdout, false);
    stream.write(b"waiting for it ... a ve", now(), &mut log);
    assert_eq!(log.take(), b"waiting for it ... ");
    stream.write(b"st", now(), &mut log);
    assert_eq!(log.take(), b"a vest");
}

#[test]
fn token_prefixes_stay_and_their_tail_is_masked() {
    let all: Vec<&str> = Masking::built_in_prefixes(true)
        .chain(["my-company-token-prefix-"])
        .collect();
    let masking = masking(&[], &all);
    for (text, expected) in [
        ("glpat-abc.D_=-1 x", "glpat-[MASKED] x"),
        ("glpat- x", "glpat- x"),
        ("glpat-é", "glpat-é"),
        ("xglpat-a,glrt-b", "xglpat-[MASKED],glrt-[MASKED]"),
        ("glglpat-a", "glglpat-[MASKED]"),
        ("_gitlab_session=abc;", "_gitlab_session=[MASKED];"),
        (
            "my-company-token-prefix-1",
            "my-company-token-prefix-[MASKED]",
        ),
    ] {
        check(&masking, text, expected);
    }
    for prefix in all {
        check(
            &masking,
            &format!("{prefix}tail\n"),
            &format!("{prefix}[MASKED]\n"),
        );
    }
    assert_eq!(
        Masking::built_in_prefixes(false).collect::<Vec<_>>(),
        ["glpat-"]
    );
}

#[test]
fn url_parameters_are_masked_to_their_end() {
    let masking = masking(&[], &[]);
    for (text, expected) in [
        (
            "https://h/?private_token=abc&x=1",
            "https://h/?private_token=[MASKED]&x=1",
        ),
        ("?a=1&RSS_Token=é€ rest", "?a=1&RSS_Token=[MASKED] rest"),
        (
            "?x-amz-security-token=a?authenticity_token=b\n",
            "?x-amz-security-token=[MASKED]?authenticity_token=[MASKED]\n",
        ),
        ("?private_tokens=a", "?private_tokens=a"),
        ("private_token=a", "private_token=a"),
        ("?private_token", "?private_token"),
        (
            "?&?x-amz-signature=\u{1b}[0m",
            "?&?x-amz-signature=[MASKED]\u{1b}[0m",
        ),
        ("?x=private_token=a", "?x=private_token=a"),
    ] {
        check(&masking, text, expected);
    }
}

fn naive(phrases: &[String], text: &str) -> String {
    let bytes = text.as_bytes();
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for phrase in phrases {
        for begin in 0..bytes.len() {
            if bytes[begin..].starts_with(phrase.as_bytes()) {
                spans.push((begin, begin + phrase.len()));
            }
        }
    }
    spans.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (begin, end) in spans {
        match merged.last_mut() {
            Some(last) if begin < last.1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    let mut output = String::new();
    let mut done = 0;
    for (begin, end) in merged {
        output.push_str(&text[done..begin]);
        output.push_str("[MASKED]");
        done = end;
    }
    output.push_str(&text[done..]);
    output
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_split_gives_the_output_of_the_plain_definition(
        phrases in proptest::collection::vec("[abc]{1,5}", 0..5),
        text in "[abcd\n]{0,60}",
        cuts in proptest::collection::vec(0_usize..60, 0..6),
    ) {
        let phrase_texts: Vec<&str> = phrases.iter().map(String::as_str).collect();
        let masking = masking(&phrase_texts, &[]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let mut writes = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            writes.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        let output = shown(&masking, &writes);
        prop_assert_eq!(String::from_utf8_lossy(&output), naive(&phrases, &text));
    }

    #[test]
    fn the_whole_chain_does_not_depend_on_the_split(
        data in proptest::collection::vec(
            prop_oneof![Just(b'?'), Just(b'&'), Just(b'='), Just(b's'), Just(0xc3), Just(0xa9), any::<u8>()], 0..80),
        inserted in prop_oneof![Just("?rss_token=s3"), Just("glpat-s3"), Just("s3s3cret")],
        at in 0_usize..80,
        split in 0_usize..100,
    ) {
        let mut data = data;
        let at = at.min(data.len());
        data.splice(at..at, inserted.bytes());
        let masking = masking(&["s3cret", "s3"], &["glpat-", "=?"]);
        let (a, b) = data.split_at(split.min(data.len()));
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        let whole = shown(&masking, &[&data]);
        prop_assert!(std::str::from_utf8(&whole).is_ok());
        prop_assert_eq!(&shown(&masking, &[a, b]), &whole);
        prop_assert_eq!(&shown(&masking, &bytes), &whole);
    }
}

#[test]
fn lines_are_stamped_as_documented() {
    let masking = masking(&[], &[]);
    let mut log = Log::new(1 << 20);
    let mut runner = Stream::new(&masking, Origin::Runner, Pipe::Stdout, true);
    let mut out = Stream::new(&masking, Origin::Script, Pipe::Stdout, true);
    let mut err = Stream::new(&masking, Origin::Script, Pipe::Stderr, true);
    let at = |text| time(&format!("2026-08-22T10:00:{text}Z"));
    runner.write(b"\x1b[0KRunning\x1b[0;m\n", at("00.000001"), &mut log);
    runner.write(b"section_start:1:x\r\x1b[0K", at("00.00001"), &mut log);
    runner.write(b"title\n", at("00.000015"), &mut log);
    out.write(b"hel", at("01.000001"), &mut log);
    err.write(b"warning\r\n", at("01.000002"), &mut log);
    out.write(b"lo\nwor", at("02"), &mut log);
    out.write(b"ld", at("03"), &mut log);
    out.close(at("04"), &mut log);
    assert_eq!(
        String::from_utf8_lossy(&log.take()),
        "2026-08-22T10:00:00.000001Z 00O \u{1b}[0KRunning\u{1b}[0;m\n\
         2026-08-22T10:00:00.000010Z 00O section_start:1:x\r\u{1b}[0K\n\
         2026-08-22T10:00:00.000015Z 00O+title\n\
         2026-08-22T10:00:01.000002Z 01E warning\r\n\
         2026-08-22T10:00:01.000001Z 01O hello\n\
         2026-08-22T10:00:02.000000Z 01O world\n"
    );
}

#[test]
fn a_long_line_is_cut_and_continued() {
    let masking = masking(&[], &[]);
    let mut log = Log::new(1 << 20);
    let mut stream = Stream::new(&masking, Origin::Script, Pipe::Stdout, true);
    stream.write(&[b'x'; 8160], now(), &mut log);
    assert!(
        log.take().is_empty(),
        "8192 bytes with the header still wait"
    );
    stream.write(b"y", now(), &mut log);
    let first = log.take();
    assert_eq!((first.len(), first[8192], first[8193]), (8194, b'y', b'\n'));
    stream.write(b"z\nnew\n", now(), &mut log);
    assert_eq!(
        String::from_utf8_lossy(&log.take()),
        "2026-08-22T10:00:00.000001Z 01O+z\n2026-08-22T10:00:00.000001Z 01O new\n"
    );
}

#[test]
fn invalid_bytes_are_replaced_one_by_one() {
    for (data, expected) in [
        (&b"a\xffb"[..], "a\u{fffd}b"),
        (b"\xe2\x82x", "\u{fffd}\u{fffd}x"),
        (b"\xe2\x82", "\u{fffd}\u{fffd}"),
        (b"\xf0\x9f\x98\x80", "😀"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
    ] {
        for split in 0..=data.len() {
            let mut log = Log::new(1 << 20);
            log.write(&data[..split]);
            log.write(&data[split..]);
            log.finish();
            assert_eq!(
                String::from_utf8_lossy(&log.take()),
                expected,
                "split at {split}"
            );
        }
    }
}

#[test]
fn the_log_is_cut_at_its_limit_with_the_known_checksum() {
    let notice = "\n\u{1b}[33;1mJob's log exceeded limit of 10 bytes.\nJob execution will continue but no more output will be collected.\u{1b}[0;m\n";
    let mut log = Log::new(10);
    for _ in 0..100 {
        log.write(b"This is the long message");
    }
    let bytes = log.take();
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        format!("This is th{notice}")
    );
    let mut digest = Digest::default();
    assert_eq!(digest.summary().checksum, "crc32:00000000");
    digest.update(&bytes[..20]);
    let mut digest = Digest::resume(digest.checksum(), digest.size());
    digest.update(&bytes[20..]);
    assert_eq!(digest.summary().checksum, "crc32:295921ca");
    assert_eq!(digest.summary().bytesize, Some(10 + notice.len() as u64));

    let mut log = Log::new(10);
    log.write("123456789é".as_bytes());
    assert_eq!(
        String::from_utf8_lossy(&log.take()),
        format!("123456789{notice}")
    );

    let mut log = Log::new(10);
    log.write(b"1234567890");
    assert_eq!(
        String::from_utf8_lossy(&log.take()),
        format!("1234567890{notice}"),
        "reaching it is enough"
    );
}

#[test]
fn memory_stays_bounded_for_endless_lines() {
    let masking = masking(&["secret", "aa"], &["glpat-"]);
    let mut log = Log::new(1 << 20);
    let mut stream = Stream::new(&masking, Origin::Script, Pipe::Stdout, true);
    for _ in 0..200 {
        stream.write(&[b'a'; 64 * 1024], now(), &mut log);
        drop(log.take());
    }
    let phrases = stream.phrases.as_ref().expect("there are phrases");
    assert!(phrases.held() <= 6);
    assert!(stream.first.capacity() + stream.second.capacity() < 1 << 20);
}

#[test]
fn more_than_a_search_can_hold_is_an_error_that_says_so() {
    let phrase =
        |name: char| courser_protocol::Secret::new(name.to_string().repeat(3 * 1024 * 1024));
    let phrases = ['a', 'b', 'c'].map(phrase);
    let error = Masking::new(&phrases, &[]).expect_err("9 MiB");
    assert!(
        error
            .to_string()
            .starts_with("cannot mask 9437184 bytes of masked variables and secrets"),
        "{error}"
    );
}
