// The first screen: who you are, which room, and how you look and sound.

import { allInWords, canCall, openCamera, openMic, rememberedDevices, warmUp } from './devices.ts';
import { icons } from './icons.ts';
import { cleanRoom, remember, suggestRoom, type Options } from './options.ts';
import { LevelMeter } from './levels.ts';
import { canChooseSpeaker, fillDevices } from './settings.ts';
import { toggleTheme } from './theme.ts';

export interface Ready {
  camera: MediaStreamTrack | null;
  mic: MediaStreamTrack | null;
  micMuted: boolean;
}

const CANNOT_CALL =
  'This browser cannot make calls: it has no WebRTC, or it is turned off in its settings. Turn it on there, or come back with a current Chrome, Edge, Firefox or Safari.';

/** Shows the screen; resolves when the person joins. */
export function lobby(app: HTMLElement, options: Options): Promise<Ready> {
  app.innerHTML = `
    <main class="lobby">
      <header class="brand">${icons.logo}<span>Ironcast</span><span class="spacer"></span>
        <button class="small plain" data-theme-toggle aria-label="Light or dark" title="Light or dark">${icons.theme}</button></header>
      <section class="preview" aria-label="Preview">
        <video playsinline muted autoplay aria-label="Your camera"></video>
        <div class="empty"><div class="avatar"></div><p></p></div>
        <div class="preview-bar">
          <button class="round" data-toggle="mic" aria-pressed="true" aria-label="Microphone" title="Microphone"></button>
          <button class="round" data-toggle="camera" aria-pressed="true" aria-label="Camera" title="Camera"></button>
        </div>
        <div class="meter" aria-hidden="true"><i></i></div>
      </section>
      <form class="card" autocomplete="off">
        <h1>Ready to join?</h1>
        <label>Your name<input name="name" maxlength="64" placeholder="How others see you" /></label>
        <p class="hint trouble" role="status" hidden></p>
        <label>Room<input name="room" maxlength="64" required spellcheck="false" autocapitalize="off" /></label>
        <div class="pair">
          <label>Camera<select name="camera"></select></label>
          <label>Microphone<select name="mic"></select></label>
          <label class="speaker" hidden>Speaker<select name="speaker"></select></label>
        </div>
        <button class="primary" type="submit">Join the call</button>
        <p class="hint">Share the room's name, and others can join you.</p>
      </form>
    </main>`;
  const find = <T extends Element>(selector: string) => app.querySelector<T>(selector)!;
  const form = find<HTMLFormElement>('form');
  const nameInput = find<HTMLInputElement>('[name=name]');
  const roomInput = find<HTMLInputElement>('[name=room]');
  const cameraSelect = find<HTMLSelectElement>('[name=camera]');
  const micSelect = find<HTMLSelectElement>('[name=mic]');
  const speakerSelect = find<HTMLSelectElement>('[name=speaker]');
  const video = find<HTMLVideoElement>('video');
  const hint = find<HTMLElement>('.empty p');
  const trouble = find<HTMLElement>('.trouble');
  const errors = new Map<string, unknown>();
  const joinButton = find<HTMLButtonElement>('.primary');
  const avatar = find<HTMLElement>('.empty .avatar');
  const micButton = find<HTMLButtonElement>('[data-toggle=mic]');
  const cameraButton = find<HTMLButtonElement>('[data-toggle=camera]');
  const meter = find<HTMLElement>('.meter i');

  nameInput.value = options.name;
  roomInput.value = options.room || suggestRoom();
  const ready: Ready = { camera: null, mic: null, micMuted: false };
  let [wantsCamera, wantsMic] = [options.video && canCall(), options.audio && canCall()];
  if (!canCall()) {
    errors.set('browser', new Error(CANNOT_CALL));
    joinButton.disabled = true;
  }
  let levels: LevelMeter | null = null;

  const show = () => {
    micButton.innerHTML = ready.mic && !ready.micMuted ? icons.mic : icons.micOff;
    micButton.setAttribute('aria-pressed', String(ready.mic !== null && !ready.micMuted));
    cameraButton.innerHTML = ready.camera ? icons.camera : icons.cameraOff;
    cameraButton.setAttribute('aria-pressed', String(ready.camera !== null));
    find('.preview').classList.toggle('off', !ready.camera);
    video.srcObject = ready.camera ? new MediaStream([ready.camera]) : null;
    avatar.textContent = initials(nameInput.value || 'You');
    trouble.textContent = allInWords(errors);
    trouble.hidden = errors.size === 0;
  };
  const list = async () => {
    await fillDevices(cameraSelect, 'camera', ready.camera?.getSettings().deviceId);
    await fillDevices(micSelect, 'mic', ready.mic?.getSettings().deviceId);
    await fillDevices(speakerSelect, 'speaker', rememberedDevices().speaker);
    find<HTMLElement>('.speaker').hidden = !canChooseSpeaker || speakerSelect.disabled;
  };
  // What was missing may have been plugged in.
  const isMissing = (what: string) => (errors.get(what) as DOMException | undefined)?.name === 'NotFoundError';
  const relist = () =>
    open(async () => {
      if (isMissing('camera')) await camera('');
      if (isMissing('microphone')) await mic('');
      await list();
    });
  const camera = async (deviceId: string) => {
    ready.camera?.stop();
    ready.camera = null;
    errors.delete('camera');
    hint.textContent = wantsCamera ? 'Opening your camera…' : 'Your camera is off';
    show();
    if (!wantsCamera) return;
    try {
      const track = await openCamera(options, deviceId);
      ready.camera = track;
      track.onended = () => ready.camera === track && open(() => camera(''));
    } catch (error) {
      errors.set('camera', error);
      hint.textContent = 'Others will not see you';
    }
    show();
  };
  const mic = async (deviceId: string) => {
    ready.mic?.stop();
    levels?.close();
    levels = null;
    ready.mic = null;
    errors.delete('microphone');
    if (wantsMic) {
      try {
        const track = await openMic(deviceId);
        ready.mic = track;
        track.onended = () => ready.mic === track && open(() => mic(''));
        levels = new LevelMeter(track, (level) => {
          meter.style.transform = `scaleX(${ready.micMuted ? 0 : Math.min(1, level * 3)})`;
        });
      } catch (error) {
        errors.set('microphone', error);
      }
    }
    show();
  };

  const remembered = rememberedDevices();
  let opening: Promise<unknown> = Promise.all([camera(remembered.camera), mic(remembered.mic), warmUp()]);
  show();
  nameInput.oninput = show;
  // One after the other, and whoever joins meanwhile waits for what he chose last. What fails keeps nobody
  // from joining.
  const open = (device: () => Promise<void>): void => {
    opening = opening.then(device).catch((error) => console.warn(error));
  };
  open(list);
  cameraSelect.onchange = () => open(() => camera(cameraSelect.value));
  micSelect.onchange = () => open(() => mic(micSelect.value));
  micButton.onclick = () => {
    if (!ready.mic) {
      // Refused, or missing, when it was asked for first: now it may be there.
      wantsMic = true;
      ready.micMuted = false;
      open(() => mic(micSelect.value));
      return open(list);
    }
    ready.micMuted = !ready.micMuted;
    show();
  };
  cameraButton.onclick = () => {
    wantsCamera = !ready.camera;
    open(() => camera(cameraSelect.value));
    open(list);
  };
  speakerSelect.onchange = () => remember('speaker', speakerSelect.value);
  navigator.mediaDevices?.addEventListener('devicechange', relist);
  find<HTMLButtonElement>('[data-theme-toggle]').onclick = toggleTheme;
  if (!nameInput.value) nameInput.focus();

  return new Promise((resolve) => {
    const join = async () => {
      if (!canCall()) return;
      const room = cleanRoom(roomInput.value);
      if (!room) {
        roomInput.setCustomValidity('Give the room a name');
        roomInput.reportValidity();
        return;
      }
      joinButton.disabled = true;
      await opening;
      options.room = room;
      options.name = nameInput.value.trim() || 'Guest';
      remember('name', nameInput.value.trim());
      levels?.close();
      for (const track of [ready.mic, ready.camera]) if (track) track.onended = null;
      navigator.mediaDevices?.removeEventListener('devicechange', relist);
      resolve(ready);
    };
    roomInput.oninput = () => roomInput.setCustomValidity('');
    form.onsubmit = (event) => {
      event.preventDefault();
      void join();
    };
    if (options.autojoin) void join();
  });
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0]?.toUpperCase() ?? '').join('') || '?';
}

/** A colour that stays with a name. */
export function hueOf(name: string): number {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)!) % 360;
  return hash;
}
