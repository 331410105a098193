// What kind of file an output is.

const pictures = new Set(['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'image/avif', 'image/bmp']);
export const isPicture = (o) => Boolean(o.object) && pictures.has(o.content_type);
export const isVideo = (o) => Boolean(o.object) && String(o.content_type).startsWith('video/');
export const isAudio = (o) => Boolean(o.object) && String(o.content_type).startsWith('audio/');
