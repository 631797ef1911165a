// Encodings that nobody watches are not sent, and come back when somebody watches them again.

import { atLeast, atMost, note } from './lib/report.mjs';
import { over, stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('watched');
const name = '14 watched';

check('the uplink falls when nobody watches the large picture, and the picture is back at once', async ({ join, servers }) => {
  const ada = await join('Ada');
  const bob = await join('Bob');
  await bob.sees([ada], { frames: 5 });
  const { consumerId } = await bob.from(ada);
  const prefer = (layer) => bob.evaluate(([id, layer]) => window.ironcast.setPreferredLayers(id, layer), [consumerId, layer]);
  const width = async () => (await bob.from(ada)).frameWidth;
  const layersSent = async (count, within = 20_000) => until(`${count} layers are sent`, async () => {
    const rates = (await ada.sent()).map(({ framesPerSecond }) => framesPerSecond ?? 0);
    return rates.filter((rate) => rate > 5).length === count || Promise.reject(new Error(rates.join()));
  }, { within });
  const uplinkBps = async () => {
    const bytes = async () => (await ada.sent()).reduce((sum, { bytesSent }) => sum + bytesSent, 0);
    const { first, last, seconds } = await over(4, bytes);
    return (8 * (last - first)) / seconds;
  };
  const arrives = async (pixels) => {
    const begun = performance.now();
    await until(`${pixels} pixels arrive`, async () => {
      const now = await width();
      return now === pixels || Promise.reject(new Error(`${now} pixels`));
    }, { within: 10_000, every: 20 });
    return performance.now() - begun;
  };
  await layersSent(3);
  await ada.estimates(1_500_000, 30_000);
  await prefer(2);
  await arrives(960);
  const whole = await uplinkBps();
  // With all layers there, for comparison.
  await prefer(0);
  await arrives(240);
  await prefer(2);
  note(name, 'to a layer that is sent', await arrives(960), 'ms');

  await prefer(0);
  await arrives(240);
  await layersSent(1);
  const small = await uplinkBps();
  note(name, 'uplink, all watched', whole / 1_000, 'kb/s');
  atMost(name, 'uplink, the smallest watched', small / 1_000, (whole / 1_000) * 0.4, 'kb/s');
  await prefer(2);
  atMost(name, 'to a layer that was off', await arrives(960), 2_000, 'ms');
  await layersSent(3);

  // Nobody at all: the smallest goes on, and whoever comes has a picture as soon as ever.
  await bob.leave();
  await layersSent(1);
  const eve = await join('Eve');
  await eve.sees([ada], { frames: 5 });
  atMost(name, 'join to first picture', await eve.joinMs(), await eve.joinLimitMs(1_500), 'ms');
  await layersSent(3);
  const { id } = await ada.evaluate(() => ({ id: window.ironcast.producers.get('camera').id }));
  await until('the server knows that all are watched', async () =>
    (await servers.control.get(`/v1/producers/${id}`)).layersUnwatched.length === 0);
  atLeast(name, 'frames', (await eve.from(ada)).framesDecoded, 5);
});
