//! The words of FFmpeg's command line: what it reads, how it draws and mixes, what it writes. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{Layout, Size};
use super::plan::{Shape, VOICES};

/// Frames in a second of what is made anew.
const FPS: u32 = 25;

/// Sound is made with so many bits in a second.
const SOUND_BITRATE: &str = "96k";

/// Seconds between two key frames of a recording: what a kill may cost.
const RECORDING_KEY_S: u32 = 2;

/// What a recording is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// H.264 and AAC; in fragments while it is written.
    #[default]
    Mp4,
    /// VP8 and Opus.
    Webm,
    /// H.264 and Opus.
    Mkv,
}

impl Format {
    /// Of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
            Self::Mkv => "mkv",
        }
    }
}

/// What is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Segments with numbers, and their list on standard output.
    Segments {
        /// With `%05d` for the number.
        pattern: PathBuf,
        /// Of the first.
        number: u64,
        /// How long each is.
        seconds: f64,
    },
    /// One file.
    File {
        /// Where.
        path: PathBuf,
        /// What.
        format: Format,
    },
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quality {
    /// The canvas.
    pub size: Size,
    /// Of the pictures.
    pub bitrate_bps: u32,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Everything after `ffmpeg`.
pub fn words(
    sdp: &Path,
    shape: &Shape,
    layout: &dyn Layout,
    quality: Quality,
    output: &Output,
) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |more: &str| words.extend(more.split_whitespace().map(str::to_owned));
    // How much it has written is known from its progress: it may be behind.
    add("-hide_banner -nostats -loglevel warning -progress pipe:1");
    // Inputs are known from the SDP and never silent: there is little to find out.
    add("-analyzeduration 1000000 -probesize 1000000 -fpsprobesize 0");
    add("-protocol_whitelist file,udp,rtp -buffer_size 1000000 -max_delay 200000");
    add("-thread_queue_size 1024 -i");
    words.push(text(sdp));
    words.extend(["-filter_complex".to_owned(), mix()]);
    let mut add = |more: &str| words.extend(more.split_whitespace().map(str::to_owned));
    if shape.is_copied {
        add("-map 0:v:0");
    } else {
        add("-filter_complex");
        words.push(layout.filter(shape.pictures.len(), quality.size, FPS));
        words.extend(["-map", "[v]"].map(str::to_owned));
    }
    words.extend(["-map", "[a]"].map(str::to_owned));
    encode(&mut words, shape, quality, output);
    write(&mut words, output);
    words
}

/// All voices into one.
fn mix() -> String {
    // Each is kept in step by its times, so that what is missing does not move the rest.
    let voice =
        |index: usize| format!("[0:a:{index}]aresample=48000:async=1000:first_pts=0[s{index}];");
    let voices: String = (0..VOICES).map(voice).collect();
    let names: String = (0..VOICES).map(|index| format!("[s{index}]")).collect();
    format!("{voices}{names}amix=inputs={VOICES}:normalize=0,alimiter=level=disabled:latency=1[a]")
}

fn encode(words: &mut Vec<String>, shape: &Shape, quality: Quality, output: &Output) {
    let mut add = |more: &str| words.extend(more.split_whitespace().map(str::to_owned));
    let key_s = match output {
        Output::Segments { seconds, .. } => *seconds,
        Output::File { .. } => RECORDING_KEY_S.into(),
    };
    let bitrate = quality.bitrate_bps;
    let is_webm = matches!(output, Output::File { format: Format::Webm, .. });
    if shape.is_copied {
        add("-c:v copy");
    } else {
        if is_webm {
            add("-c:v libvpx -deadline realtime -cpu-used 8 -auto-alt-ref 0");
        } else {
            add("-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -sc_threshold 0");
        }
        add(&format!("-threads 2 -r {FPS} -g {} -b:v {bitrate} -maxrate {bitrate}", 10 * FPS));
        add(&format!(
            "-bufsize {} -force_key_frames expr:gte(t,n_forced*{key_s})",
            bitrate.saturating_mul(2)
        ));
    }
    match output {
        Output::File { format: Format::Webm | Format::Mkv, .. } => add("-c:a libopus"),
        _ => add("-c:a aac"),
    }
    add(&format!("-b:a {SOUND_BITRATE} -ar 48000 -ac 2"));
}

fn write(words: &mut Vec<String>, output: &Output) {
    let mut add = |more: &str| words.extend(more.split_whitespace().map(str::to_owned));
    match output {
        Output::Segments { pattern, number, seconds } => {
            add(&format!("-f segment -segment_format mpegts -segment_time {seconds}"));
            add(&format!("-segment_start_number {number}"));
            add("-segment_list pipe:1 -segment_list_type csv -segment_list_size 0");
            words.push(text(pattern));
        }
        Output::File { path, format } => {
            match format {
                // Playable up to the last fragment, however it ends.
                Format::Mp4 => {
                    add("-movflags +frag_keyframe+empty_moov+default_base_moof -f mp4");
                }
                Format::Webm => add("-f webm -cluster_time_limit 2000"),
                Format::Mkv => add("-f matroska -cluster_time_limit 2000"),
            }
            add("-flush_packets 1 -y");
            words.push(text(path));
        }
    }
}

/// Makes one file of a recording's parts, with its length and an index in it: nothing is made anew.
pub fn join(list: &Path, format: Format, path: &Path) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |more: &str| words.extend(more.split_whitespace().map(str::to_owned));
    add("-hide_banner -nostdin -nostats -loglevel warning -progress pipe:1 -f concat -safe 0 -i");
    words.push(text(list));
    let mut add = |more: &str| words.extend(more.split_whitespace().map(str::to_owned));
    add("-map 0 -c copy");
    if format == Format::Mp4 {
        add("-movflags +faststart");
    }
    add("-y");
    words.push(text(path));
    words
}

#[cfg(test)]
mod tests {
    use super::super::layout::LayoutName;
    use super::super::rtp::Codec;
    use super::*;

    const QUALITY: Quality =
        Quality { size: Size { width: 1280, height: 720 }, bitrate_bps: 1_500_000 };

    fn line(shape: &Shape, output: &Output) -> String {
        let layout = LayoutName::Speaker.make();
        words(Path::new("/a b/in.sdp"), shape, &*layout, QUALITY, output).join(" ")
    }

    #[test]
    fn h264_of_one_is_copied_and_everything_else_is_made_anew() {
        let output = Output::Segments { pattern: "s-%05d.ts".into(), number: 7, seconds: 1.0 };
        let copied = line(&Shape { pictures: vec![Codec::H264], is_copied: true }, &output);
        assert!(copied.contains("-c:v copy") && !copied.contains("libx264"), "{copied}");
        assert!(copied.contains("-segment_start_number 7"), "{copied}");
        let made = line(&Shape { pictures: vec![Codec::Vp8], is_copied: false }, &output);
        assert!(made.contains("libx264") && made.contains("-map [v]"), "{made}");
        assert!(made.contains("amix=inputs=6"), "{made}");
    }

    #[test]
    fn each_format_has_its_codecs() {
        let of = |format: Format| {
            let path = PathBuf::from(format!("part-0.{}", format.ending()));
            let shape = Shape { pictures: vec![Codec::Vp8], is_copied: false };
            line(&shape, &Output::File { path, format })
        };
        assert!(of(Format::Mp4).contains("frag_keyframe"));
        assert!(of(Format::Mp4).contains("aac"));
        assert!(of(Format::Webm).contains("libvpx") && of(Format::Webm).contains("libopus"));
        assert!(of(Format::Mkv).contains("libx264") && of(Format::Mkv).contains("matroska"));
    }
}
