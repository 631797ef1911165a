// A viewer asks for low, high, low: the resolution follows, and the stream stays one stream.

import assert from 'node:assert/strict';
import { atMost, note } from './lib/report.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('layers');
const WIDTHS = [240, 480, 960];

for (const codec of ['VP8', 'H264']) {
  check(`a viewer asks for low, high, low with ${codec}`, async ({ join }) => {
    const name = `3 layers ${codec}`;
    const ada = await join('Ada', { codec });
    const bob = await join('Bob', { codec });
    await bob.sees([ada], { frames: 5 });
    const { consumerId } = await bob.from(ada);
    const ask = async (layer, within) => {
      const begun = performance.now();
      await bob.evaluate(([id, layer]) => window.ironcast.setPreferredLayers(id, layer), [consumerId, layer]);
      await until(`${WIDTHS[layer]} pixels arrive`, async () => {
        const { frameWidth } = await bob.from(ada);
        return frameWidth === WIDTHS[layer] || Promise.reject(new Error(`${frameWidth} pixels`));
      }, { within, every: 25 });
      return performance.now() - begun;
    };
    // First all layers must be sent: an estimator that has just begun sends the small ones only.
    await until('three layers are sent', async () => {
      const sent = await ada.sent();
      return sent.filter(({ framesPerSecond }) => framesPerSecond > 5).length === 3;
    }, { within: 20_000 });
    await ask(2, 15_000);

    const before = await bob.from(ada);
    await bob.evaluate((id) => window.frameWatch.start(id), consumerId);
    for (const layer of [0, 2, 0]) {
      atMost(name, `until ${WIDTHS[layer]} pixels`, await ask(layer, 5_000), 2_000, 'ms');
      // Long enough at each layer that a late disturbance belongs to its own switch.
      const { framesDecoded } = await bob.from(ada);
      await until('a second more is decoded', async () => (await bob.from(ada)).framesDecoded >= framesDecoded + 15);
    }
    const watch = await bob.evaluate((id) => window.frameWatch.stop(id), consumerId);
    const after = await bob.from(ada);
    atMost(name, 'longest pause between frames', watch.pauseMs, 300, 'ms');
    atMost(name, 'timestamps that went back', watch.backwards, 0);
    atMost(name, 'clocks apart', watch.driftMs, 400, 'ms');
    atMost(name, 'streams seen', watch.ssrcs, 1);
    atMost(name, 'packets lost', after.packetsLost - before.packetsLost, 0);
    note(name, 'frames seen', watch.frames);
    assert.equal(after.ssrc, before.ssrc);
  });
}
