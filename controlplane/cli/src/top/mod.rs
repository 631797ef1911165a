//! `ironcast top`: a running host on one screen, each second anew. Owns the terminal and the keys;
//! `view` draws, and knows nothing of terminals or connections.

mod view;

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc;

use self::view::{Screen, Shown};
use crate::{
    look::table::print_json,
    remote::{EXIT_CODES, Failure, Reach, Remote},
};

/// Routers and transports that are asked for: as many as a tall terminal shows.
const COUNT: u32 = 100;
/// How long the reader of keys looks before it asks whether it is still wanted.
const KEYS_LOOK: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Seconds between two looks
    #[arg(long, short, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    delay: f64,
    /// Print one look as text and end; where the output is no terminal this is so anyway
    #[arg(long)]
    once: bool,
    /// Print one look as JSON and end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.2..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.2 to 3600".to_owned()),
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let first = remote.client.top(COUNT).await.map_err(|error| remote.failure(error))?;
    if arguments.json {
        print_json(&first);
        return Ok(());
    }
    let mut screen = Screen::new(remote.url.clone());
    screen.see(first, Instant::now());
    if arguments.once || !std::io::stdout().is_terminal() {
        // Rates of drops need two looks.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let top = remote.client.top(COUNT).await.map_err(|error| remote.failure(error))?;
        screen.see(top, Instant::now());
        println!("{}", view::as_text(&screen, 100));
        return Ok(());
    }
    let terminal = ratatui::try_init()?;
    let outcome = stay(&remote, screen, terminal, Duration::from_secs_f64(arguments.delay)).await;
    ratatui::restore();
    outcome
}

/// Until somebody wants to leave.
async fn stay(
    remote: &Remote,
    mut screen: Screen,
    mut terminal: DefaultTerminal,
    delay: Duration,
) -> Result<(), Failure> {
    let mut keys = keys();
    let mut tick = tokio::time::interval(delay);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| view::draw(frame, &screen))?;
        tokio::select! {
            _ = tick.tick() => match remote.client.top(COUNT).await {
                Ok(top) => screen.see(top, Instant::now()),
                // What was seen last stays, and it says so: the server may come back.
                Err(error) => screen.lose(remote.failure(error).to_string()),
            },
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if !press(&mut screen, key) {
                        return Ok(());
                    }
                }
                // Another size is drawn above.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// False to leave.
fn press(screen: &mut Screen, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('r') => screen.shown = Shown::Routers,
        KeyCode::Char('t') => screen.shown = Shown::Transports,
        KeyCode::Char('d') => screen.shown = Shown::Drops,
        KeyCode::Char('b') => screen.shown = Shown::Both,
        KeyCode::Tab => screen.shown = screen.shown.next(),
        KeyCode::Down | KeyCode::Char('j') => screen.first = screen.first.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => screen.first = screen.first.saturating_sub(1),
        KeyCode::Home => screen.first = 0,
        _ => {}
    }
    true
}

/// What is pressed. The terminal can only be read by waiting, so a thread does; it ends when nobody
/// listens any more.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = event::poll(KEYS_LOOK).and_then(|is| is.then(event::read).transpose());
            let is_wanted = match read {
                Ok(None) => true,
                Ok(Some(event)) => sender.blocking_send(event).is_ok(),
                // No terminal any more.
                Err(_) => false,
            };
            if !is_wanted {
                return;
            }
        }
    });
    receiver
}
