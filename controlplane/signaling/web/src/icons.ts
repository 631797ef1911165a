// Icons as inline SVG, drawn for this page: 24x24, strokes in the current colour.

const draw = (body: string) =>
  `<svg viewBox="0 0 24 24" width="22" height="22" fill="none" stroke="currentColor" stroke-width="1.800" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${body}</svg>`;

export const icons = {
  mic: draw('<rect x="9" y="3" width="6" height="11" rx="3"/><path d="M5.500 11.500a6.500 6.500 0 0 0 13 0M12 18v3"/>'),
  micOff: draw('<path d="M9 9v2a3 3 0 0 0 4.600 2.500M15 10.500V6a3 3 0 0 0-5.800-1.100M5.500 11.500a6.500 6.500 0 0 0 10.200 5.300M18.500 11.500c0 1-.2 1.900-.6 2.700M12 18v3M4 4l16 16"/>'),
  camera: draw('<rect x="3" y="6.500" width="12.500" height="11" rx="2.500"/><path d="m15.500 10.500 4.200-2.500a.9.9 0 0 1 1.300.8v6.400a.9.9 0 0 1-1.300.8l-4.200-2.500"/>'),
  cameraOff: draw('<path d="M10 6.500h3a2.500 2.500 0 0 1 2.500 2.500v1.500l4.200-2.500a.9.900 0 0 1 1.300.8v6.400M15.500 15a2.500 2.500 0 0 1-2.500 2.500H5.500A2.500 2.500 0 0 1 3 15V9c0-1 .6-1.900 1.500-2.300M4 4l16 16"/>'),
  /** One camera, then the other. */
  flip: draw('<path d="M4.500 11.500a7.500 7.500 0 0 1 13-4.500l2 2M19.500 4.500V9H15M19.500 12.500a7.500 7.500 0 0 1-13 4.500l-2-2M4.500 19.500V15H9"/><circle cx="12" cy="12" r="2.400"/>'),
  screen: draw('<rect x="3" y="4.500" width="18" height="12" rx="2.500"/><path d="M8.500 20h7M12 13.500v-6m0 0L9.500 10M12 7.500l2.500 2.500"/>'),
  screenOff: draw('<rect x="3" y="4.500" width="18" height="12" rx="2.500"/><path d="M8.500 20h7M9.800 8.300l4.400 4.400m0-4.400-4.400 4.400"/>'),
  stats: draw('<path d="M4.500 19.500v-6M9.500 19.500V8M14.500 19.500v-8.500M19.500 19.500v-15"/>'),
  link: draw('<path d="M10 14a4 4 0 0 0 6 .4l2.800-2.800a4 4 0 0 0-5.700-5.700L12 7M14 10a4 4 0 0 0-6-.4l-2.800 2.800a4 4 0 0 0 5.700 5.700L12 17"/>'),
  leave: draw('<path d="M3.700 13.900c-.9-.9-.9-2.300 0-3.200 4.600-4.300 12-4.300 16.600 0 .9.9.9 2.300 0 3.200l-.9.9a1.500 1.500 0 0 1-1.900.2l-2-1.300a1.500 1.500 0 0 1-.7-1.300v-1.300a10.600 10.600 0 0 0-5.600 0v1.300c0 .5-.3 1-.7 1.300l-2 1.300a1.500 1.500 0 0 1-1.900-.2z"/>'),
  pin: draw('<path d="M12 15.500V21M8.500 3.500h7l-.8 6 2.800 3.300a1.100 1.100 0 0 1-.9 1.700H7.400a1.100 1.100 0 0 1-.9-1.700l2.800-3.300z"/>'),
  broadcast: draw('<circle cx="12" cy="12" r="2.200"/><path d="M8 16a5.700 5.700 0 0 1 0-8M16 8a5.700 5.700 0 0 1 0 8M5.200 18.800a9.600 9.600 0 0 1 0-13.600M18.800 5.200a9.600 9.600 0 0 1 0 13.600"/>'),
  record: draw('<circle cx="12" cy="12" r="8.500"/><circle cx="12" cy="12" r="3.800" fill="currentColor"/>'),
  check: draw('<path d="m5 12.500 4.500 4.500L19 7.500"/>'),
  alert: draw('<circle cx="12" cy="12" r="8.500"/><path d="M12 8v4.500M12 16h.01"/>'),
  sound: draw('<path d="M4 10v4a1 1 0 0 0 1 1h3l4.500 4V5L8 9H5a1 1 0 0 0-1 1zM16 9a4.500 4.500 0 0 1 0 6M18.500 6.500a8 8 0 0 1 0 11"/>'),
  chat: draw('<path d="M5.500 4.500h13a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H11l-4.500 3.500v-3.500h-1a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2zM8 9h8M8 12.500h5"/>'),
  close: draw('<path d="m6.500 6.500 11 11m0-11-11 11"/>'),
  down: draw('<path d="M12 5v14m0 0 5.500-5.500M12 19l-5.500-5.500"/>'),
  send: draw('<path d="M4.500 12 3.500 4.800a.6.6 0 0 1 .9-.6l16 7.300a.6.6 0 0 1 0 1.100l-16 7.300a.6.6 0 0 1-.9-.6zM4.500 12H12"/>'),
  people: draw('<circle cx="9" cy="8.500" r="3.500"/><path d="M2.800 19.500a6.200 6.200 0 0 1 12.400 0M15.500 5.300a3.500 3.500 0 0 1 0 6.400M17.500 14.300a6.200 6.200 0 0 1 3.700 5.200"/>'),
  more: draw('<g fill="currentColor" stroke="none"><circle cx="5.500" cy="12" r="1.700"/><circle cx="12" cy="12" r="1.700"/><circle cx="18.500" cy="12" r="1.700"/></g>'),
  grid: draw('<rect x="3.500" y="4.500" width="7.500" height="6.500" rx="1.500"/><rect x="13" y="4.500" width="7.500" height="6.500" rx="1.500"/><rect x="3.500" y="13" width="7.500" height="6.500" rx="1.500"/><rect x="13" y="13" width="7.500" height="6.500" rx="1.500"/>'),
  spotlight: draw('<rect x="3.500" y="4.500" width="17" height="9.500" rx="1.500"/><path d="M4.500 19h3M10.500 19h3M16.500 19h3"/>'),
  devices: draw('<path d="M4 7h9M17.500 7H20M4 17h2.500M11 17h9"/><circle cx="15.200" cy="7" r="2.200"/><circle cx="8.800" cy="17" r="2.200"/>'),
  /** Half light, half dark. */
  theme: draw('<circle cx="12" cy="12" r="8.500"/><path d="M12 3.500v17a8.500 8.500 0 0 0 0-17z" fill="currentColor" stroke="none"/>'),
  help: draw('<circle cx="12" cy="12" r="8.500"/><path d="M9.700 9.500a2.400 2.400 0 1 1 3.500 2.100c-.8.4-1.200 1-1.200 1.900M12 16.500h.01"/>'),
  door: draw('<path d="M5 20.500V4.500a1 1 0 0 1 1-1h9a1 1 0 0 1 1 1v16M3 20.500h18M12.800 12.200h.01M19 8v12.500"/>'),
  bars: '<svg viewBox="0 0 16 14" width="16" height="14" fill="currentColor" aria-hidden="true"><rect x="1" y="9" width="3.400" height="4" rx="1"/><rect x="6.300" y="5.500" width="3.400" height="7.500" rx="1"/><rect x="11.600" y="1.500" width="3.400" height="11.500" rx="1"/></svg>',
  logo: '<svg viewBox="0 0 32 32" width="30" height="30" aria-hidden="true"><defs><linearGradient id="lg" x1="0" y1="0" x2="1" y2="1"><stop stop-color="#ffb45e"/><stop offset="1" stop-color="#ff5c39"/></linearGradient></defs><path fill="url(#lg)" d="M14.500 1.900a3 3 0 0 1 3 0l9.600 5.500a3 3 0 0 1 1.500 2.600v12a3 3 0 0 1-1.500 2.600l-9.600 5.500a3 3 0 0 1-3 0l-9.600-5.500A3 3 0 0 1 3.400 22V10a3 3 0 0 1 1.500-2.600z"/><g fill="none" stroke="#16110e" stroke-width="2.400" stroke-linecap="round"><path d="M11.600 11.200a6.800 6.800 0 0 0 0 9.600M20.400 11.200a6.800 6.800 0 0 1 0 9.600"/></g><circle cx="16" cy="16" r="2.600" fill="#16110e"/></svg>',
};
