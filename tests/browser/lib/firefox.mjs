// Firefox ESR with its fake devices, driven by WebDriver BiDi, with what `Participant` wants of a browser.

import fs from 'node:fs';
import puppeteer from 'puppeteer-core';

const PROGRAM = process.env.FIREFOX ?? ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find((path) => fs.existsSync(path));

const PREFERENCES = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.autoplay.default': 0,
};

export async function launchFirefox() {
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: PROGRAM,
    headless: true,
    extraPrefsFirefox: PREFERENCES,
  });
  const newContext = async ({ viewport }) => {
    const context = await browser.createBrowserContext();
    const newPage = async () => {
      const page = await context.newPage();
      await page.setViewport(viewport);
      page.addInitScript = (code, argument) => page.evaluateOnNewDocument(code, argument);
      return page;
    };
    return { newPage, close: () => context.close() };
  };
  return { newContext, close: () => browser.close() };
}
