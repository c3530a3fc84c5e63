//! The example that each command's `--help` ends with.
//!
//! Lives here: one line a command, put behind its help. Does not live here: what the commands do.

use clap::Command;

/// Words of a command, and a line that uses it.
type Example = (&'static [&'static str], &'static str);

const EXAMPLES: &[Example] = &[
    (
        &[],
        "warren demo\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 no router is running there, \
         4 not found, 5 took too long or no way there, 6 refused, 7 a part of a file is lost",
    ),
    (&["init"], "warren init --name garden"),
    (&["run"], "warren run --link 0.0.0.0:40001"),
    (&["status"], "warren status --json"),
    (&["doctor"], "warren doctor"),
    (&["why"], "warren why blog"),
    (&["invite"], "warren invite --to garden.invite"),
    (&["join"], "warren join garden.invite --dir b"),
    (&["friend"], "warren friend list"),
    (&["friend", "add"], "warren friend add anna.invite --name anna"),
    (&["friend", "remove"], "warren friend remove anna"),
    (&["friend", "list"], "warren friend list --json"),
    (&["expose"], "warren expose 127.0.0.1:8080 --label blog"),
    (&["services"], "warren services"),
    (&["unexpose"], "warren unexpose blog"),
    (&["service"], "warren service shares blog"),
    (&["service", "share"], "warren service share blog --to anna"),
    (&["service", "revoke"], "warren service revoke blog anna"),
    (&["service", "shares"], "warren service shares blog --json"),
    (&["service", "accept"], "warren service accept warren-share-LETTERS"),
    (&["service", "accepted"], "warren service accepted"),
    (&["service", "forget"], "warren service forget NAME.warren"),
    (&["put"], "warren put holiday.tar --durable"),
    (&["puts"], "warren puts --cancel 3"),
    (&["get"], "warren get URI -o holiday.tar"),
    (&["cat"], "warren cat URI/notes.txt"),
    (&["ls"], "warren ls URI"),
    (&["check"], "warren check URI --sample 32"),
    (&["heal"], "warren heal URI"),
    (&["verify-key"], "warren verify-key URI"),
    (&["pin"], "warren pin URI"),
    (&["unpin"], "warren unpin URI"),
    (&["pins"], "warren pins --json"),
    (&["bundle"], "warren bundle export URI -o stick.bundle"),
    (&["bundle", "export"], "warren bundle export URI NAME.warren -o stick.bundle"),
    (&["bundle", "import"], "warren bundle import stick.bundle"),
    (&["site"], "warren site list"),
    (&["site", "publish"], "warren site publish pages --label first"),
    (&["site", "update"], "warren site update NAME.warren pages"),
    (&["site", "history"], "warren site history NAME.warren"),
    (&["site", "watch"], "warren site watch NAME.warren --json"),
    (&["site", "fork"], "warren site fork NAME.warren"),
    (&["site", "list"], "warren site list --json"),
    (&["page"], "warren page"),
    (&["browse"], "warren browse --browser chromium"),
    (&["key"], "warren key backup warren.backup"),
    (&["key", "backup"], "warren key backup warren.backup --passphrase-file secret"),
    (&["key", "restore"], "warren key restore warren.backup --services --dir b"),
    (&["key", "id"], "warren key id --dir b"),
    (&["demo"], "warren demo --once --json"),
    (&["testnet"], "warren testnet up net --routers 12"),
    (&["testnet", "up"], "warren testnet up net --routers 12 --service 127.0.0.1:8080"),
    (&["testnet", "join"], "warren testnet join net"),
    (&["testnet", "down"], "warren testnet down net"),
    (&["bench"], "warren bench relay --json"),
    (&["bench", "relay"], "warren bench relay --tunnels 20"),
    (&["bench", "crypto"], "warren bench crypto"),
    (&["bench", "handshake"], "warren bench handshake"),
    (&["bench", "build"], "warren bench build --delay-ms 40"),
    (&["bench", "link"], "warren bench link --json"),
    (&["bench", "path"], "warren bench path --json"),
    (&["bench", "far"], "warren bench far"),
    (&["bench", "idle"], "warren bench idle"),
    (&["bench", "store"], "warren bench store --blocks 8192"),
    (&["completions"], "warren completions bash > warren.bash"),
    (&["man"], "warren man man1"),
];

/// Puts each command's example behind its help.
pub(super) fn add(root: Command) -> Command {
    EXAMPLES.iter().fold(root, |root, (words, line)| put(root, words, line))
}

fn put(command: Command, words: &'static [&'static str], line: &str) -> Command {
    match words.split_first() {
        None => command.after_help(format!("Example: {line}")),
        Some((first, rest)) => command.mut_subcommand(first, |child| put(child, rest, line)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{super::Cli, *};

    fn visit(command: &Command, words: &str) {
        let words = format!("{words} {}", command.get_name()).trim().to_owned();
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let line = example
            .strip_prefix("Example: ")
            .unwrap_or_else(|| panic!("`{words}` has no example in its help"));
        assert!(line.starts_with(&words), "`{words}` has an example of something else: {line}");
        // Without redirections and further paragraphs.
        let line = line.split(['>', '\n']).next().unwrap();
        // An invite is checked where it is used: any text passes here.
        let parsed = Cli::command().try_get_matches_from(line.split_whitespace());
        assert!(parsed.is_ok(), "the example of `{words}` is wrong: {}", parsed.unwrap_err());
        // `sim` passes its words on to a program with a help of its own.
        let own_help = |child: &&Command| !child.is_hide_set() && child.get_name() != "sim";
        command.get_subcommands().filter(own_help).for_each(|child| visit(child, &words));
    }

    #[test]
    fn every_command_has_an_example_and_it_is_one_that_the_program_takes() {
        visit(&add(Cli::command()), "");
    }
}
