// Which encodings a camera or a screen is sent in. Chromium makes three simulcast layers only
// from 960x540 on: with three at a smaller size the largest stays empty. So the number of layers
// follows the size of the track.

export type CodecName = 'VP8' | 'VP9' | 'H264' | 'AV1';

export interface Encoding {
  scaleResolutionDownBy?: number;
  maxBitrate: number;
  scalabilityMode?: string;
}

const LADDER_BPS = [100_000, 300_000, 900_000];

/** Smallest layer first, as mediasoup-client wants them. */
export function cameraEncodings(codec: CodecName, width: number, simulcast = true): Encoding[] {
  if (codec === 'VP9' || codec === 'AV1') {
    return [{ maxBitrate: width >= 960 ? 1_200_000 : 600_000, scalabilityMode: 'L1T1' }];
  }
  const scalabilityMode = codec === 'VP8' ? 'L1T3' : 'L1T1';
  const layers = !simulcast || width < 480 ? 1 : width < 960 ? 2 : 3;
  if (layers === 1) {
    const maxBitrate = width >= 960 ? 900_000 : 300_000;
    return [{ maxBitrate, scalabilityMode }];
  }
  return Array.from({ length: layers }, (_, layer) => ({
    scaleResolutionDownBy: 2 ** (layers - 1 - layer),
    maxBitrate: LADDER_BPS[layer + 3 - layers],
    scalabilityMode,
  }));
}

/** Text must stay sharp: one layer, more bits. */
export function screenEncodings(codec: CodecName): Encoding[] {
  return [{ maxBitrate: 2_500_000, scalabilityMode: codec === 'VP8' ? 'L1T3' : 'L1T1' }];
}

/** Layers of a consumer, from the scalability mode that the server gives it (`L3T3`, `S3T3`). */
export function layersOf(scalabilityMode: string | undefined): { spatial: number; temporal: number } {
  const match = /^[LS](\d+)T(\d+)/.exec(scalabilityMode ?? '');
  return { spatial: Number(match?.[1] ?? 1), temporal: Number(match?.[2] ?? 1) };
}

export type Quality = 'auto' | 'high' | 'medium' | 'low';

/** A layer that is this much smaller than its tile still looks the same. */
const STRETCH_MAX = 1.05;

/** The picture's width when its sender did not say it. */
const WIDTH_USUAL = 1280;

/**
 * The spatial layer to ask for. `auto` takes the smallest that fills the tile: a picture of 100
 * pixels gains nothing from a stream of a thousand. Each layer has half the width of the next.
 */
export function spatialLayerFor(
  quality: Quality,
  spatialLayers: number,
  tilePixels: number,
  width = 0,
): number {
  const top = spatialLayers - 1;
  switch (quality) {
    case 'high':
      return top;
    case 'medium':
      return Math.max(0, top - 1);
    case 'low':
      return 0;
    case 'auto': {
      let layer = top;
      let next = (width || WIDTH_USUAL) / 2;
      while (layer > 0 && next * STRETCH_MAX >= tilePixels) {
        layer -= 1;
        next /= 2;
      }
      return layer;
    }
  }
}
