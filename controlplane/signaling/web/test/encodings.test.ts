import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cameraEncodings, layersOf, screenEncodings, spatialLayerFor } from '../src/encodings.ts';

test('layers follow the size of the track', () => {
  const ladder = (width: number) => cameraEncodings('VP8', width).map((e) => e.maxBitrate);
  assert.deepEqual(ladder(1280), [100_000, 300_000, 900_000]);
  assert.deepEqual(ladder(960), [100_000, 300_000, 900_000]);
  assert.deepEqual(ladder(640), [300_000, 900_000]);
  assert.deepEqual(ladder(320), [300_000]);
  const scales = cameraEncodings('H264', 960).map((e) => e.scaleResolutionDownBy);
  assert.deepEqual(scales, [4, 2, 1]);
});

test('VP9, AV1 and screens are single streams', () => {
  for (const codec of ['VP9', 'AV1'] as const) {
    assert.equal(cameraEncodings(codec, 1280).length, 1);
    assert.equal(screenEncodings(codec).length, 1);
  }
  assert.equal(cameraEncodings('VP8', 1280, false).length, 1);
});

test('scalability modes are read', () => {
  assert.deepEqual(layersOf('L3T3'), { spatial: 3, temporal: 3 });
  assert.deepEqual(layersOf('S2T1'), { spatial: 2, temporal: 1 });
  assert.deepEqual(layersOf(undefined), { spatial: 1, temporal: 1 });
});

test('quality becomes a layer', () => {
  assert.equal(spatialLayerFor('high', 3, 100), 2);
  assert.equal(spatialLayerFor('medium', 3, 100), 1);
  assert.equal(spatialLayerFor('low', 3, 2000), 0);
  assert.equal(spatialLayerFor('auto', 3, 900), 2);
  assert.equal(spatialLayerFor('auto', 3, 583), 1);
  assert.equal(spatialLayerFor('auto', 3, 340), 1);
  assert.equal(spatialLayerFor('auto', 3, 120), 0);
  assert.equal(spatialLayerFor('auto', 1, 900), 0);
});

test('a tile asks for the smallest layer that fills it', () => {
  for (const width of [640, 960, 1280, 1920]) {
    for (let pixels = 50; pixels < 2000; pixels += 7) {
      const layer = spatialLayerFor('auto', 3, pixels, width);
      const filled = (width / 2 ** (2 - layer)) * 1.05;
      assert.ok(layer === 2 || filled >= pixels, `${pixels} pixels of ${width}: layer ${layer}`);
      if (layer > 0) assert.ok(filled / 2 < pixels, `${pixels} pixels of ${width}: layer ${layer} is too much`);
    }
  }
});
