// What the page can be told to do, and the key for each: the buttons, the keyboard and the help read
// it here.

export type Action =
  | 'mic' | 'camera' | 'screen' | 'chat' | 'people' | 'more' | 'leave'
  | 'flip' | 'layout' | 'invite' | 'broadcast' | 'record' | 'stats' | 'devices' | 'theme' | 'help';

export interface Shortcut {
  key: string;
  action: Action;
  text: string;
}

export const SHORTCUTS: readonly Shortcut[] = [
  { key: 'M', action: 'mic', text: 'Microphone on or off' },
  { key: 'V', action: 'camera', text: 'Camera on or off' },
  { key: 'S', action: 'screen', text: 'Share the screen, or stop' },
  { key: 'C', action: 'chat', text: 'Open or close the chat' },
  { key: 'P', action: 'people', text: 'Open or close the list of people' },
  { key: 'L', action: 'layout', text: 'All equally large, or the speaker large' },
  { key: 'I', action: 'invite', text: 'Copy the invite link' },
  { key: 'D', action: 'stats', text: 'Show or hide statistics' },
  { key: 'B', action: 'broadcast', text: 'Begin or end the broadcast' },
  { key: 'R', action: 'record', text: 'Begin or end the recording' },
  { key: 'G', action: 'devices', text: 'Choose camera, microphone and speaker' },
  { key: 'T', action: 'theme', text: 'Light or dark' },
  { key: '?', action: 'help', text: 'This help' },
];

/** Those that are not of a letter. */
export const OTHER_KEYS: readonly { key: string; text: string }[] = [
  { key: 'Space', text: 'While held down: talk, although muted' },
  { key: 'Tab', text: 'To the next thing; with Shift to the one before' },
  { key: 'Enter', text: 'On a picture: enlarge it, or not any more' },
  { key: 'Esc', text: 'Close the chat, a list, a menu' },
];

export function keyOf(action: Action): string {
  return SHORTCUTS.find((each) => each.action === action)?.key ?? '';
}

/** The action of a key that was pressed. */
export function actionOf(key: string): Action | undefined {
  return SHORTCUTS.find((each) => each.key === key.toUpperCase())?.action;
}
