// Camera and microphone: asking for them, listing them, and friendly words when it fails.

import { remember, remembered, type Options } from './options.ts';

export interface Chosen {
  camera: string;
  mic: string;
  speaker: string;
}

export function rememberedDevices(): Chosen {
  return { camera: remembered('camera'), mic: remembered('mic'), speaker: remembered('speaker') };
}

export async function openCamera(options: Options, deviceId: string): Promise<MediaStreamTrack> {
  return cameraOf(await chosen(deviceId, (which) => ({ video: { ...which, ...picture(options) } })));
}

/** The camera on the other side of a phone; where sides are not known, the next one. */
export async function openOtherCamera(options: Options, now: MediaStreamTrack): Promise<MediaStreamTrack> {
  const { facingMode, deviceId } = now.getSettings();
  const other = ({ user: 'environment', environment: 'user' } as Record<string, string>)[facingMode ?? ''];
  // Phones have one camera open at a time.
  now.stop();
  if (other) {
    try {
      return cameraOf(await media({ video: { facingMode: { exact: other }, ...picture(options) } }));
    } catch (error) {
      if ((error as DOMException).name !== 'OverconstrainedError') throw error;
    }
  }
  const all = (await listDevices('videoinput')).map((device) => device.deviceId);
  return openCamera(options, all[(all.indexOf(deviceId ?? '') + 1) % all.length] ?? '');
}

function picture(options: Options): MediaTrackConstraints {
  return {
    width: { ideal: options.width },
    height: { ideal: options.height },
    frameRate: { ideal: options.fps, max: options.fps },
  };
}

function cameraOf(stream: MediaStream): MediaStreamTrack {
  const track = stream.getVideoTracks()[0];
  track.contentHint = 'motion';
  remember('camera', track.getSettings().deviceId ?? '');
  return track;
}

export async function openMic(deviceId: string): Promise<MediaStreamTrack> {
  const stream = await chosen(deviceId, (which) => ({
    audio: {
      ...which,
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
    },
  }));
  const track = stream.getAudioTracks()[0];
  remember('mic', track.getSettings().deviceId ?? '');
  return track;
}

/** Any microphone, when the one in use is gone; none where the browser would ask people first. */
export async function openNextMic(): Promise<MediaStreamTrack | null> {
  const name = 'microphone' as PermissionName;
  const allowed = await navigator.permissions?.query({ name }).catch(() => null);
  if (allowed && allowed.state !== 'granted') return null;
  const usual = rememberedDevices().mic;
  const track = await openMic('');
  // What is plugged in again is the usual one again, the next time.
  remember('mic', usual);
  return track;
}

export async function openScreen(): Promise<MediaStreamTrack> {
  if (!navigator.mediaDevices?.getDisplayMedia) {
    throw new Error('This browser cannot share its screen.');
  }
  const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } }, audio: false });
  const track = stream.getVideoTracks()[0];
  track.contentHint = 'detail';
  return track;
}

/** This device and no other, as browsers choose for themselves among what is only wished; or, when it is gone, any. */
async function chosen(deviceId: string, wanted: (which: MediaTrackConstraints) => MediaStreamConstraints): Promise<MediaStream> {
  if (!deviceId) return media(wanted({}));
  try {
    return await media(wanted({ deviceId: { exact: deviceId } }));
  } catch (error) {
    if (!['OverconstrainedError', 'NotFoundError'].includes((error as DOMException).name)) throw error;
    return media(wanted({}));
  }
}

function media(constraints: MediaStreamConstraints): Promise<MediaStream> {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('Browsers give a page camera and microphone only on localhost or over HTTPS.');
  }
  return navigator.mediaDevices.getUserMedia(constraints);
}

/** None where the browser does not tell: it chooses by itself then. */
export async function listDevices(kind: MediaDeviceKind): Promise<MediaDeviceInfo[]> {
  try {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all.filter((device) => device.kind === kind && device.deviceId !== '');
  } catch {
    return [];
  }
}

/** False in a browser without WebRTC, or where it is turned off. */
export function canCall(): boolean {
  return typeof RTCPeerConnection !== 'undefined';
}

/** Whether somebody closed the browser's own dialog, which is no error. */
export function isOwnWish(error: unknown): boolean {
  const { name, message } = error as DOMException;
  return name === 'NotAllowedError' && !/system/i.test(message);
}

/** Why several devices are missing; those with one reason are named together. */
export function allInWords(errors: ReadonlyMap<string, unknown>): string {
  const denied = [...errors].filter(([, error]) => (error as DOMException)?.name === 'NotAllowedError');
  const together = denied.length > 1;
  const texts = together ? [inWords(denied[0][1], denied.map(([what]) => what).join(' and '))] : [];
  for (const [what, error] of errors) {
    const isNamed = together && denied.some(([each]) => each === what);
    const text = inWords(error, what);
    if (!isNamed && !texts.includes(text)) texts.push(text);
  }
  return texts.join(' ');
}

export function inWords(error: unknown, what: string): string {
  const name = (error as DOMException)?.name;
  if (what === 'screen' && (name === 'NotAllowedError' || name === 'NotReadableError')) {
    return 'Your system does not let the browser record the screen. Allow it in the system’s privacy settings.';
  }
  switch (name) {
    case 'NotAllowedError':
      return `The browser does not let this page use your ${what}. Allow ${/ and /.test(what) ? 'them' : 'it'} in the address bar.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `No ${what} was found.`;
    case 'NotReadableError':
      return `Your ${what} is in use by another program.`;
    default:
      return error instanceof Error ? error.message : `Your ${what} could not be opened.`;
  }
}

/**
 * The first offer of a page makes the browser look for its codecs and start what WebRTC needs, which
 * takes it a good part of a second. Done while people look at themselves, nobody waits for it.
 */
export async function warmUp(): Promise<void> {
  let connection: RTCPeerConnection | undefined;
  try {
    connection = new RTCPeerConnection();
    connection.addTransceiver('audio');
    connection.addTransceiver('video');
    await connection.createOffer();
  } catch {
    // The join says what is wrong.
  } finally {
    connection?.close();
  }
}
